import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { type Browser, chromium, type Page } from "playwright-core";
import { requireTool } from "./tools.ts";

export const noBrowser = requireTool("chromium", "chromium");

/** Longer, and the page hangs. */
const waitMs = 15_000;

/** Debian's chromium. The caller closes it. */
export function launchBrowser(): Promise<Browser> {
  return chromium.launch({
    executablePath: "/usr/bin/chromium",
    // As root there is no sandbox, and what it is shown is ours.
    args: ["--no-sandbox", "--force-color-profile=srgb"],
  });
}

export interface OpenedPage {
  page: Page;
  /** What must stay empty: exceptions that nobody caught, and what the page's policy forbade. */
  faults: string[];
}

export interface PageLook {
  width?: number;
  height?: number;
  colorScheme?: "light" | "dark";
}

export async function openPage(browser: Browser, url: string, look: PageLook = {}) {
  const { width = 1280, height = 900, colorScheme = "light" } = look;
  const context = await browser.newContext({ viewport: { width, height }, colorScheme });
  const page = await context.newPage();
  page.setDefaultTimeout(waitMs);
  const faults: string[] = [];
  page.on("pageerror", (error) => faults.push(`uncaught: ${error.message}`));
  page.on("console", (message) => {
    const text = message.text();
    // A server that is stopped is what some tests are about.
    if (/net::ERR_|status of 401/.test(text)) return;
    if (message.type() === "error" || message.type() === "warning") faults.push(text);
  });
  await page.goto(url);
  return { page, faults };
}

const axeSource = readFileSync(
  join(createRequire(import.meta.url).resolve("axe-core"), "../axe.min.js"),
  "utf8",
);

/** What the accessibility checker finds serious or critical on the page as it is. */
export async function seriousProblems(page: Page): Promise<string[]> {
  // Not as a script of the page, which its policy would forbid.
  await page.evaluate(axeSource);
  const found = await page.evaluate("axe.run(document, { resultTypes: ['violations'] })");
  const { violations } = found as {
    violations: { id: string; impact: string; help: string; nodes: { html: string }[] }[];
  };
  assert.ok(Array.isArray(violations));
  return violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ id, help, nodes }) => `${id}: ${help}: ${nodes[0]?.html}`);
}
