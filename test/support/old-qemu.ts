import { spawnSync } from "node:child_process";
import { homedir } from "node:os";
import { join } from "node:path";

/**
 * Programs of QEMU 5.2, which still have the Sheepdog driver: `scripts/old-qemu.sh` builds them.
 * They are in the directory KELPIE_OLD_QEMU, else where that script puts them.
 */
const directory = process.env.KELPIE_OLD_QEMU ?? join(cacheDirectory(), "qemu-5.2");

/** The path of one of the programs, for `runTool` and its like. */
export function oldQemu(program: "qemu-img" | "qemu-io"): string {
  return join(directory, program);
}

/**
 * For a test's `skip` option: false when the programs are there and have the driver, else the reason.
 * Unlike other tools they may be missing with KELPIE_REQUIRE_TOOLS=1, because they need an archive that is
 * not always reachable; not, however, where KELPIE_OLD_QEMU says that they are.
 */
export function requireOldQemu(): string | false {
  const help = spawnSync(oldQemu("qemu-img"), ["--help"], { encoding: "utf8" });
  const runs = spawnSync(oldQemu("qemu-io"), ["--version"]).status === 0;
  if (runs && /^Supported formats:.* sheepdog\b/m.test(help.stdout ?? "")) return false;
  const reason = `no qemu-img and qemu-io with the Sheepdog driver in ${directory}`;
  if (process.env.KELPIE_OLD_QEMU !== undefined) throw new Error(`${reason} (KELPIE_OLD_QEMU)`);
  return `${reason}: scripts/old-qemu.sh builds them`;
}

/** As in the script: an empty variable is as good as none. */
function cacheDirectory(): string {
  const { KELPIE_CACHE, XDG_CACHE_HOME } = process.env;
  return KELPIE_CACHE || join(XDG_CACHE_HOME || join(homedir(), ".cache"), "kelpie");
}
