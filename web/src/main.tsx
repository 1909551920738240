import { render } from "preact";
import { beginSession } from "./api.ts";
import { App } from "./app.tsx";
import { server } from "./server-state.ts";
import "./style.css";

/** The URL that the server prints has the token behind the #, where it is not sent to anybody. */
async function takeToken(): Promise<void> {
  const token = /^#token=([\w-]+)/.exec(window.location.hash)?.[1];
  if (token === undefined) return;
  // Neither in the history nor in a bookmark.
  window.history.replaceState(null, "", "/");
  await beginSession(token).catch(() => {}); // The page asks for it then.
}

const root = document.getElementById("root");
if (root === null) throw new Error("the page has no root");
void takeToken().finally(() => {
  server.connect();
  render(<App />, root);
});
