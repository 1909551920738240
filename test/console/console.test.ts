import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import type { Control } from "../../src/control/calls.ts";
import { openLocalStore } from "../../src/control/local-store.ts";
import { createNodeHost } from "../../src/host/node/node-host.ts";
import {
  launchBrowser,
  noBrowser,
  openPage,
  type PageLook,
  seriousProblems,
} from "../support/browser.ts";
import { projectRoot } from "../support/readme.ts";
import { Scratch, ServerProcess } from "../support/server-process.ts";
import { requireTool, runTool } from "../support/tools.ts";

/** `KELPIE_SCREENSHOTS=1 npm test -- test/console` makes the pictures of the documents. */
const takesPictures = process.env.KELPIE_SCREENSHOTS === "1";
const pictures = join(projectRoot, "docs/img");

const noQemuIo = requireTool("qemu-io", "qemu-utils");
const noFio = requireTool("fio", "fio");
const skip = noBrowser;

let browser: Browser;
before(async () => {
  if (skip !== false) return;
  const built = spawnSync(process.execPath, ["scripts/build-web.ts", "--if-older"], {
    cwd: projectRoot,
    encoding: "utf8",
  });
  assert.equal(built.status, 0, built.stderr);
  browser = await launchBrowser();
});
after(() => browser?.close());

interface Served extends AsyncDisposable {
  server: ServerProcess;
  url: string;
  /** With the token, as the server prints it. */
  entry: string;
  scratch: Scratch;
  restart(): Promise<void>;
}

type Prepare = (control: Control) => Promise<void>;

/** `prepare` makes what is to be there before the server is: sooner than through it. */
async function serve(prepare?: Prepare): Promise<Served> {
  const scratch = await Scratch.create();
  const store = scratch.file("store");
  if (prepare !== undefined) {
    const host = createNodeHost({ logLevel: "error" });
    const local = await openLocalStore({ directory: store, create: true }, { host });
    await prepare(local.control);
    await local.close();
  }
  let server = await ServerProcess.start(store, ["--http", "127.0.0.1:0"]);
  const { http } = await server.control.call("server.info", {});
  const [url = ""] = http;
  const token = readFileSync(join(store, "token"), "utf8").trim();
  return {
    get server() {
      return server;
    },
    url,
    entry: `${url}/#token=${token}`,
    scratch,
    async restart() {
      server = await ServerProcess.start(store, ["--http", url.replace("http://", "")]);
    },
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]();
      await scratch[Symbol.asyncDispose]();
    },
  };
}

async function picture(page: Page, name: string): Promise<void> {
  if (!takesPictures) return;
  mkdirSync(pictures, { recursive: true });
  await page.mouse.move(0, 0);
  await page.screenshot({ path: join(pictures, `${name}.png`), animations: "disabled" });
}

/** Where the points of the tree on the page stand: x and y of the middle of each, by its label. */
async function drawnTree(page: Page): Promise<Record<string, { x: number; y: number }>> {
  const nodes = await page.locator(".tree .node").all();
  const places: Record<string, { x: number; y: number }> = {};
  for (const node of nodes) {
    const label = ((await node.locator(".node-label").textContent()) ?? "").trim();
    const box = await node.locator("rect").boundingBox();
    if (box !== null) places[label] = { x: box.x + box.width / 2, y: box.y + box.height / 2 };
  }
  return places;
}

async function snapshot(page: Page, tag: string): Promise<void> {
  await page.getByRole("button", { name: "Snapshot", exact: true }).click();
  await page.getByRole("textbox", { name: "Tag" }).fill(tag);
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: new RegExp(`^${tag} .*, a snapshot`) }).waitFor();
}

test("a disk is made, written, frozen twice and rolled back, and the tree is the one of the README", {
  skip: skip || noQemuIo,
}, async () => {
  await using served = await serve();
  const { server } = served;
  const { page, faults } = await openPage(browser, served.entry);
  await page.getByRole("heading", { name: "There is no disk yet" }).waitFor();
  assert.ok(!page.url().includes("token"), "the token is not in the address");
  await page.getByRole("button", { name: "Make the first one" }).click();
  await page.getByRole("textbox", { name: "Name" }).fill("web1");
  await page.getByRole("textbox", { name: "Size" }).fill("64M");
  await page.keyboard.press("Enter");
  await page.getByRole("link", { name: "web1" }).click();
  const write = (pattern: number) =>
    runTool("qemu-io", ["-f", "raw", "-c", `write -P ${pattern} 0 8M`, server.uri("web1")]);
  await write(1);
  await snapshot(page, "snap1");
  await write(2);
  await snapshot(page, "snap2");
  await write(3);
  await page.getByRole("button", { name: /^snap1 .*, a snapshot/ }).click();
  await page.getByText("8.0 MiB returned if it is deleted").waitFor();
  await page.getByRole("button", { name: "Roll back to this" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByText("with 8.0 MiB that only it holds, is set aside").waitFor();
  await dialog.getByRole("button", { name: "Roll back" }).click();
  await page.getByText("web1 stands on snap1.").waitFor();
  await page.getByRole("button", { name: /^web1 working VDI ?, it stands on snap1/ }).waitFor();
  const { snap1, snap2, web1 } = await drawnTree(page);
  assert.ok(snap1 !== undefined && snap2 !== undefined && web1 !== undefined);
  assert.ok(snap1.x < snap2.x && Math.abs(snap1.y - snap2.y) < 1, "snap2 stands beside snap1");
  assert.ok(web1.y > snap1.y && Math.abs(web1.x - snap1.x) < 1, "the working VDI hangs below it");
  const shown = await server.ok("vdi", "tree", "web1");
  assert.match(shown, /snap1 <-- snap2\n +\^\n +\|\n +web1 \(you are here\)/);
  await runTool("qemu-io", ["-r", "-f", "raw", "-c", "read -P 1 0 8M", server.uri("web1")]);
  await page.getByRole("button", { name: "Undo" }).click();
  await page.getByRole("button", { name: /^web1 working VDI ?, it stands on snap2/ }).waitFor();
  await runTool("qemu-io", ["-r", "-f", "raw", "-c", "read -P 3 0 8M", server.uri("web1")]);
  assert.deepEqual(faults, []);
});

test("a clone is made, a disk deleted and brought back, by keyboard alone", { skip }, async () => {
  await using served = await serve();
  const { server } = served;
  await server.ok("vdi", "create", "base", "1G");
  await server.ok("vdi", "snapshot", "base", "-s", "golden");
  const { page, faults } = await openPage(browser, served.entry);
  const press = async (...keys: string[]) => {
    for (const key of keys) await page.keyboard.press(key);
  };
  await page.getByRole("link", { name: "base" }).focus();
  await press("Enter");
  await page.getByRole("button", { name: /^base working VDI/ }).focus();
  await press("ArrowLeft");
  // The focus goes along at once: whoever types on is not taken back to the tree.
  const golden = await page.getByRole("button", { name: /^golden / }).getAttribute("id");
  assert.equal(await page.evaluate("document.activeElement.id"), golden);
  await page.getByRole("button", { name: "Clone" }).focus();
  await press("Enter");
  await page.getByRole("textbox", { name: "Name" }).focus();
  await page.keyboard.type("copy1");
  await press("Enter");
  await page.getByRole("button", { name: /^copy1 working VDI ?, it stands on golden/ }).waitFor();
  assert.equal((await server.cli("vdi", "info", "copy1")).exitCode, 0);
  await page.goto(`${served.url}/#/disk/copy1`);
  await page.getByRole("heading", { name: "copy1", level: 1 }).waitFor();
  await page.getByRole("button", { name: "Delete", exact: true }).focus();
  await press("Enter");
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("button", { name: "Delete" }).focus();
  await press("Enter");
  await page.getByText("copy1 is deleted.").waitFor();
  assert.equal((await server.cli("vdi", "info", "copy1")).exitCode, 5);
  await page.getByRole("button", { name: "Undo" }).focus();
  await press("Enter");
  await page.getByRole("link", { name: "copy1" }).waitFor();
  assert.equal((await server.cli("vdi", "info", "copy1")).exitCode, 0);
  assert.deepEqual(faults, []);
});

test("figures follow what fio does", { skip: skip || noFio }, async () => {
  await using served = await serve();
  const { server } = served;
  await server.ok("vdi", "create", "busy", "64M");
  const { page, faults } = await openPage(browser, served.entry);
  await page.getByRole("link", { name: "Live" }).click();
  const options = ["--ioengine=nbd", "--rw=randrw", "--bs=4k", "--iodepth=8", "--size=64M"];
  const time = ["--time_based", "--runtime=60", "--name=load", "--output-format=terse"];
  const fio = spawn("fio", [...options, ...time, `--uri=${server.uri("busy")}`], {
    stdio: "ignore",
  });
  try {
    await page
      .getByRole("region", { name: "Busy disks" })
      .getByText("busy", { exact: true })
      .waitFor();
    const requests = page.getByRole("img", { name: /^Requests a second, now: read [1-9]/ });
    await requests.waitFor();
    await page.getByRole("link", { name: "Activity" }).click();
    const clients = page.getByRole("region", { name: "Connected clients" });
    await clients.getByText("busy").first().waitFor();
  } finally {
    fio.kill("SIGKILL");
  }
  assert.deepEqual(faults, []);
});

test("a server that goes away is missed, and found again without a reload", { skip }, async () => {
  await using served = await serve();
  const { page, faults } = await openPage(browser, served.entry);
  await page.getByRole("status").getByText("live").waitFor();
  await served.server.stop("SIGKILL");
  await page.getByRole("alert").getByText("The server does not answer.").waitFor();
  await page.getByText("kelpie serve").waitFor();
  await served.restart();
  await served.server.ok("vdi", "create", "later", "1G");
  await page.getByRole("link", { name: "later" }).waitFor();
  assert.equal(await page.getByRole("alert").count(), 0);
  await page.reload();
  await page.getByRole("link", { name: "later" }).waitFor();
  assert.deepEqual(faults, []);
});

test("without the token there is nothing to see; pasted, it opens the page", { skip }, async () => {
  await using served = await serve();
  await served.server.ok("vdi", "create", "secret", "1G");
  const { page, faults } = await openPage(browser, served.url);
  await page.getByRole("heading", { name: "Kelpie" }).waitFor();
  assert.equal(await page.getByText("secret").count(), 0);
  assert.deepEqual(await seriousProblems(page), []);
  await page.getByLabel("Token").fill("wrong");
  await page.keyboard.press("Enter");
  await page.getByText("That is not the token of this server.").waitFor();
  await page.getByLabel("Token").fill(served.entry);
  await page.keyboard.press("Enter");
  await page.getByRole("link", { name: "secret" }).waitFor();
  assert.deepEqual(faults, []);
});

/** A store with something of everything, as in the pictures. */
async function furnish({ server }: Served): Promise<void> {
  const mebibyte = 2 ** 20;
  const fill = async (name: string, offset: number, count: number) => {
    const device = await server.connect(name);
    for (let at = 0; at < count; at++) {
      await device.write([Buffer.alloc(mebibyte, at + 1)], offset + at * mebibyte);
    }
    await device.close();
  };
  await server.ok("vdi", "create", "web1", "2G");
  await fill("web1", 0, 24);
  await server.ok("vdi", "snapshot", "web1", "-s", "base");
  await fill("web1", 16 * mebibyte, 8);
  await server.ok("vdi", "snapshot", "web1", "-s", "snap1");
  await fill("web1", 700 * mebibyte, 12);
  await server.ok("vdi", "snapshot", "web1", "-s", "snap2");
  await server.ok("vdi", "clone", "web1", "-s", "base", "web2");
  await fill("web2", 1200 * mebibyte, 6);
  await server.ok("vdi", "rollback", "web1", "-s", "snap1");
  await fill("web1", 900 * mebibyte, 5);
  for (const name of ["db1", "ci-runner", "build-cache"]) {
    await server.ok("vdi", "create", name, "20G");
  }
  await fill("db1", 0, 9);
}

const looks: [string, PageLook][] = [
  ["light", { colorScheme: "light" }],
  ["dark", { colorScheme: "dark" }],
  ["narrow", { width: 360, height: 740 }],
];

test("no page has a serious barrier, light, dark or narrow, and none is wider than its window", {
  skip,
}, async () => {
  await using served = await serve();
  await furnish(served);
  for (const [look, settings] of looks) {
    const { page, faults } = await openPage(browser, served.entry, settings);
    await page.getByRole("link", { name: "web1" }).waitFor();
    if (look === "light") await picture(page, "console-disks-light");
    for (const place of ["disks", "disk/web1", "live", "vms", "activity"]) {
      await page.goto(`${served.url}/#/${place}`);
      await page.locator("main h1, main h2").first().waitFor();
      if (place === "disk/web1") {
        await page.getByRole("button", { name: /^snap1 .*, a snapshot/ }).click();
        await page.getByText("Roll back to this").waitFor();
        await page.locator(".map").waitFor();
        await picture(page, `console-disk-${look}`);
      }
      assert.deepEqual(await seriousProblems(page), [], `${place}, ${look}`);
      const wide = "document.documentElement.scrollWidth - window.innerWidth";
      assert.ok(((await page.evaluate(wide)) as number) <= 0, `${place} fits, ${look}`);
    }
    await page.goto(`${served.url}/#/disk/web1`);
    await page.getByRole("button", { name: "Snapshot", exact: true }).click();
    await page.getByRole("dialog").waitFor();
    assert.deepEqual(await seriousProblems(page), [], `a dialog, ${look}`);
    assert.deepEqual(faults, []);
    await page.context().close();
  }
});

test("a thousand snapshots are drawn and walked through, without drawing all of them", {
  skip,
}, async () => {
  await using served = await serve(async (control) => {
    await control.call("vdi.create", { name: "old", sizeBytes: 2 ** 30 });
    for (let at = 1; at <= 1000; at++) {
      await control.call("vdi.snapshot", { names: ["old"], tag: `s${at}` });
    }
  });
  const { page, faults } = await openPage(browser, served.entry);
  await page.getByRole("link", { name: "old" }).click();
  await page.getByRole("button", { name: /^old working VDI/ }).waitFor();
  assert.ok((await page.locator(".tree .node").count()) < 60, "only what can be seen is drawn");
  await page.getByRole("button", { name: /^old working VDI/ }).focus();
  for (let at = 1000; at > 990; at--) await page.keyboard.press("ArrowLeft");
  await page.getByRole("region", { name: "About s991" }).waitFor();
  await page.keyboard.press("Home");
  await page.getByRole("region", { name: "About s1", exact: true }).waitFor();
  await page.getByRole("button", { name: "Fit" }).click();
  assert.deepEqual(faults, []);
});

test("ten thousand disks are listed and found", { skip }, async () => {
  await using served = await serve(async (control) => {
    const names = Array.from({ length: 10_000 }, (_, at) => `disk-${String(at).padStart(5, "0")}`);
    // All at once: they share records.
    await Promise.all(
      names.map((name) => control.call("vdi.create", { name, sizeBytes: 2 ** 30 })),
    );
  });
  const { page, faults } = await openPage(browser, served.entry);
  await page.getByText("10000 disks").waitFor();
  assert.ok((await page.getByRole("row").count()) < 60, "only what can be seen is drawn");
  await page.getByRole("searchbox").fill("09999");
  await page.getByRole("link", { name: "disk-09999" }).waitFor();
  await page.getByRole("searchbox").fill("");
  await page.keyboard.press("End");
  await page.evaluate("window.scrollTo(0, document.body.scrollHeight)");
  await page.getByRole("link", { name: "disk-09999" }).waitFor();
  assert.deepEqual(faults, []);
});

test("the page is small, and nothing in it is from elsewhere", { skip }, async () => {
  await using served = await serve();
  const context = await browser.newContext();
  const page = await context.newPage();
  const asked: string[] = [];
  const sizes: Promise<{ responseBodySize: number }>[] = [];
  page.on("request", (request) => asked.push(request.url()));
  page.on("response", (response) => {
    if (!/\/v1\//.test(response.url())) sizes.push(response.request().sizes());
  });
  await page.goto(served.entry);
  await page.getByRole("heading", { name: "There is no disk yet" }).waitFor();
  assert.ok(
    asked.every((url) => url.startsWith(`${served.url}/`)),
    asked.join("\n"),
  );
  const bytes = (await Promise.all(sizes)).reduce((sum, size) => sum + size.responseBodySize, 0);
  assert.ok(bytes > 5000 && bytes < 200_000, `${bytes} bytes`);
  await context.close();
});
