import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { ActivityPage } from "./activity.tsx";
import { beginSession, type CallError } from "./api.ts";
import { DiskPage } from "./disk.tsx";
import { DisksPage } from "./disks.tsx";
import { LivePage } from "./live.tsx";
import { type Link, server, useLink } from "./server-state.ts";
import { Toasts } from "./toasts.tsx";
import { VmsPage } from "./vms.tsx";

/** Parts of what is behind the #: ["disk", "web1"]. */
function useRoute(): string[] {
  const read = () =>
    window.location.hash
      .replace(/^#\/?/, "")
      .split("/")
      .map((part) => decodeURIComponent(part));
  const [route, setRoute] = useState(read);
  useEffect(() => {
    const changed = () => setRoute(read());
    window.addEventListener("hashchange", changed);
    return () => window.removeEventListener("hashchange", changed);
  }, []);
  return route;
}

const places = [
  { path: "disks", title: "Disks" },
  { path: "live", title: "Live" },
  { path: "vms", title: "Machines" },
  { path: "activity", title: "Activity" },
] as const;

export function App() {
  const route = useRoute();
  const link = useLink();
  const [place = "disks", name] = route;
  const shown = place === "disk" ? "disks" : place || "disks";
  const title = places.find(({ path }) => path === shown)?.title ?? "Disks";
  useEffect(() => {
    document.title = `${name ?? title} – Kelpie`;
  }, [name, title]);
  if (link === "locked") return <Locked />;
  return (
    <div class="shell">
      <header class="top">
        <a class="brand" href="#/disks">
          <img src="/icon.svg" alt="" width="28" height="28" /> Kelpie
        </a>
        <nav aria-label="Pages">
          {places.map(({ path, title: text }) => (
            <a href={`#/${path}`} key={path} aria-current={path === shown ? "page" : undefined}>
              {text}
            </a>
          ))}
        </nav>
        <LinkState link={link} />
      </header>
      {link === "lost" && <Lost />}
      <main>
        <Page place={shown} name={place === "disk" ? name : undefined} />
      </main>
      <Toasts />
    </div>
  );
}

function Page({ place, name }: { place: string; name: string | undefined }): ComponentChildren {
  if (name !== undefined) return <DiskPage name={name} key={name} />;
  if (place === "live") return <LivePage />;
  if (place === "vms") return <VmsPage />;
  if (place === "activity") return <ActivityPage />;
  return <DisksPage />;
}

const linkTexts: Record<Link, string> = {
  connecting: "connecting",
  open: "live",
  lost: "no answer",
  locked: "locked",
};

function LinkState({ link }: { link: Link }) {
  return (
    <span class={`link link-${link}`} role="status">
      <span class="dot" aria-hidden="true" /> {linkTexts[link]}
    </span>
  );
}

function Lost() {
  return (
    <div class="notice warn" role="alert">
      <strong>The server does not answer.</strong> Machines that use its disks wait or see errors.
      If it was stopped, start it again with <code>kelpie serve</code>, as it was started before; if
      it runs, its log says what keeps it. This page goes on by itself when the server is back. What
      is shown is what was known last.
    </div>
  );
}

function Locked() {
  const [token, setToken] = useState("");
  const [error, setError] = useState<string>();
  const submit = async (event: Event) => {
    event.preventDefault();
    try {
      await beginSession(token.trim().replace(/^.*#token=/, ""));
      server.connect();
    } catch (failure) {
      const { status, message } = failure as CallError;
      setError(status === 401 ? "That is not the token of this server." : message);
    }
  };
  return (
    <main class="locked">
      <form class="card" onSubmit={submit}>
        <h1>
          <img src="/icon.svg" alt="" width="36" height="36" /> Kelpie
        </h1>
        <p>
          This page needs the server's token. Open the URL that <code>kelpie serve</code> printed,
          or paste what is in the file <code>token</code> of the store:
        </p>
        <label>
          Token
          <input
            type="password"
            autocomplete="off"
            value={token}
            onInput={(event) => setToken(event.currentTarget.value)}
          />
        </label>
        {error !== undefined && (
          <p class="error" role="alert">
            {error}
          </p>
        )}
        <button type="submit" class="primary" disabled={token.trim() === ""}>
          Open
        </button>
      </form>
    </main>
  );
}
