#!/bin/bash
# Builds qemu-img and qemu-io of QEMU 5.2, which still have the Sheepdog driver (6.1 dropped it), for the tests
# that put a real driver against Kelpie. From the source package of Debian bullseye, fetched by apt, which
# checks it against Debian's signatures. Only the two programs are kept, in a cache outside the checkout.
#
#     scripts/old-qemu.sh             build them, unless they are there
#     scripts/old-qemu.sh --directory where they are, or would be: in $KELPIE_CACHE/qemu-5.2,
#                                     by default ~/.cache/kelpie/qemu-5.2
#     scripts/old-qemu.sh --there     does nothing; exit 0 if they are there, else 1
#     scripts/old-qemu.sh --packages  the Debian packages that building needs
#
# Exit: 0 they are there; 1 the build failed; 2 wrong use; 69 a package is missing;
# 75 no archive could be reached, or none has the source package signed by Debian: it may work another time.
set -euo pipefail

release=bullseye
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
target=${KELPIE_CACHE:-${XDG_CACHE_HOME:-${HOME:?}/.cache}/kelpie}/qemu-5.2
packages=(
  debian-archive-keyring dpkg-dev gcc libc6-dev libglib2.0-dev make meson ninja-build pkg-config
  python3 xz-utils zlib1g-dev
)
# One archive may take so long; a network that swallows packets must not stop anybody for hours.
archive_seconds_max=300

# What would only make the build longer, or dependent on the libraries that a machine happens to have.
without=(
  system user docs guest-agent werror debug-info tpm vhost-user virtiofsd vnc
  attr auth-pam cap-ng gcrypt gnutls linux-aio linux-io-uring mpath nettle numa xfsctl
  curl glusterfs libiscsi libnfs libssh rbd
  bzip2 libxml2 lzfse lzo snappy zstd
  bochs cloop dmg parallels qcow1 qed replication vdi vvfat
)

main() {
  case ${1:-} in
    "") ;;
    --directory) echo "$target" && return ;;
    --there) is_there "$target" && exit 0 || exit 1 ;;
    --packages) printf '%s\n' "${packages[@]}" && return ;;
    *) stop 2 "unknown: $1 (--directory, --there, --packages, or nothing)" ;;
  esac
  if is_there "$target"; then
    echo "old QEMU: already in $target"
    return
  fi
  check_packages
  mkdir -p "$(dirname "$target")"
  scratch=$(mktemp -d "$target.building-XXXXXX")
  trap 'rm -rf "$scratch"' EXIT
  fetch "$scratch"
  build "$scratch"
  keep "$scratch/built"
}

# Both run, which they do not when a library has gone, and the driver is in.
is_there() {
  "$1/qemu-io" --version &>/dev/null &&
    "$1/qemu-img" --help 2>/dev/null | grep '^Supported formats:.* sheepdog\b' >/dev/null
}

check_packages() {
  local missing=() package
  for package in "${packages[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
      missing+=("$package")
  done
  ((${#missing[@]} == 0)) || stop 69 "building it needs packages that are not installed:" \
    "apt-get install --no-install-recommends ${missing[*]}"
}

# Leaves the unpacked source in $1/source, with Debian's patches; one of them leaves pc-bios out, whose
# contents are not in the package.
fetch() {
  local archive
  for archive in $(archives); do
    echo "old QEMU: fetching the source package of qemu from $archive $release"
    if fetch_from "$archive" "$1"; then
      (cd "$1" && dpkg-source --no-check -x qemu_*.dsc source >unpack.log 2>&1) ||
        stop 1 "the source package could not be unpacked: $(tail -n 3 "$1/unpack.log")"
      return
    fi
  done
  stop 75 "NOT BUILT: no archive that could be reached has Debian's source package of it (see above)." \
    "Tests that need it are skipped."
}

# Where this machine gets Debian from, then Debian's own archives, the second of which keeps old releases.
archives() {
  {
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -E '/debian/?$' || true
    echo http://deb.debian.org/debian
    echo http://archive.debian.org/debian
  } | sed 's,/*$,/,' | awk '!seen[$0]++'
}

# With lists, cache and status of its own: what apt knows of this machine stays as it is.
fetch_from() {
  local archive=$1 apt=$2/apt
  rm -rf "$apt"
  mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
  touch "$apt/status"
  echo "deb-src [signed-by=$keyring] $archive $release main" >"$apt/sources.list"
  local options=(
    -q
    -o "Dir::Etc::SourceList=$apt/sources.list" -o Dir::Etc::SourceParts=-
    -o "Dir::State::Lists=$apt/lists" -o "Dir::State::status=$apt/status"
    -o "Dir::Cache=$apt/cache"
    -o APT::Sandbox::User= # The scratch directory is ours alone.
    -o APT::Update::Error-Mode=any
    -o Acquire::Retries=2 -o Acquire::http::Timeout=30 -o Acquire::https::Timeout=30
  )
  (
    cd "$2"
    timeout "$archive_seconds_max" apt-get "${options[@]}" update &&
      timeout "$archive_seconds_max" apt-get "${options[@]}" source --download-only qemu
  ) </dev/null
}

build() {
  local log=$1/build.log start=$SECONDS
  mkdir "$1/source/b" "$1/built"
  echo "old QEMU: building qemu-img and qemu-io, about a minute on two cores"
  (
    cd "$1/source/b"
    ../configure --enable-sheepdog --enable-tools --target-list= --enable-trace-backends=nop \
      "${without[@]/#/--disable-}"
    # They are used for seconds; compiling them well would take twice as long as compiling them.
    meson configure -Doptimization=1
    ninja qemu-img qemu-io
  ) >"$log" 2>&1 || stop 1 "the build failed:" "$(grep -E 'ERROR|error:' "$log" || tail -n 20 "$log")"
  cp "$1/source/b/qemu-img" "$1/source/b/qemu-io" "$1/built"
  (cd "$1" && echo "Debian source package ${release}/$(basename -- qemu_*.dsc .dsc)" >built/ORIGIN)
  is_there "$1/built" || stop 1 "what was built has no Sheepdog driver"
  echo "old QEMU: built in $((SECONDS - start)) s"
}

# Two at once: the first to get here wins.
keep() {
  is_there "$target" || { rm -rf "$target" && mv -T "$1" "$target"; }
  echo "old QEMU: now in $target ($(cat "$target/ORIGIN"))"
}

stop() {
  local code=$1
  shift
  printf 'old QEMU: %s\n' "$*" >&2
  exit "$code"
}

main "$@"
