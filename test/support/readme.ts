import { readFileSync } from "node:fs";
import { join } from "node:path";

/** The checkout. */
export const projectRoot = join(import.meta.dirname, "../..");

/**
 * The code block of README.md that stands under the comment `<!-- example: NAME -->`, so that what
 * the README shows is what the tests run. Undefined if there is no such comment.
 */
export function readmeExample(name: string): string | undefined {
  return findExample(readFileSync(join(projectRoot, "README.md"), "utf8"), name);
}

export function findExample(markdown: string, name: string): string | undefined {
  const marker = `<!-- example: ${name} -->\n`;
  const start = markdown.indexOf(marker);
  if (start === -1) return undefined;
  const block = /^\s*```[^\n]*\n([\s\S]*?)\n```/.exec(markdown.slice(start + marker.length));
  if (block === null) throw new Error(`README.md: no code block follows "${marker.trim()}"`);
  return `${block[1]}\n`;
}
