/**
 * A small lexer: enough to tell comments, strings, templates and regular expressions from code. It
 * knows nothing of grammar, so a "/" is taken for a division after a name, a number or a closing
 * bracket, and for a regular expression anywhere else; our formatter leaves no other case.
 */
type Kind = "code" | "comment" | "string";

/** The text with comments replaced by spaces; lines and columns stay. */
export function blankComments(text: string): string {
  return blank(text, "comment");
}

/** The text with the contents of strings, templates and regular expressions replaced by spaces. */
export function blankStrings(text: string): string {
  return blank(text, "string");
}

function blank(text: string, kind: Kind): string {
  const kinds = classify(text);
  let result = "";
  for (let index = 0; index < text.length; index += 1) {
    const character = text[index] ?? "";
    result += kinds[index] === kind && character !== "\n" ? " " : character;
  }
  return result;
}

function classify(text: string): Kind[] {
  const kinds: Kind[] = new Array<Kind>(text.length).fill("code");
  const mark = (start: number, end: number, kind: Kind) => kinds.fill(kind, start, end);
  /** For each open template, the depth of braces inside its `${`. */
  const templates: number[] = [];
  let index = text.startsWith("#!") ? lineEnd(text, 0) : 0;
  mark(0, index, "comment");

  const template = (start: number): number => {
    const { end, hole } = templateEnd(text, start);
    mark(start, end, "string");
    if (hole) templates.push(0);
    return hole ? end + 2 : end + 1;
  };

  while (index < text.length) {
    const two = text.slice(index, index + 2);
    const one = two[0] ?? "";
    const depth = templates.at(-1);
    if (two === "//" || two === "/*") {
      const end = two === "//" ? lineEnd(text, index) : blockEnd(text, index);
      mark(index, end, "comment");
      index = end;
    } else if (one === '"' || one === "'") {
      const end = quotedEnd(text, index + 1, one);
      mark(index + 1, end, "string");
      index = end + 1;
    } else if (one === "/" && startsRegExp(text, index)) {
      const end = regExpEnd(text, index + 1);
      mark(index + 1, end, "string");
      index = end + 1;
    } else if (one === "`") {
      index = template(index + 1);
    } else if (one === "}" && depth === 0) {
      templates.pop();
      index = template(index + 1);
    } else {
      if (depth !== undefined && one === "{") templates[templates.length - 1] = depth + 1;
      if (depth !== undefined && one === "}") templates[templates.length - 1] = depth - 1;
      index += 1;
    }
  }
  return kinds;
}

function lineEnd(text: string, from: number): number {
  const end = text.indexOf("\n", from);
  return end === -1 ? text.length : end;
}

function blockEnd(text: string, from: number): number {
  const end = text.indexOf("*/", from + 2);
  return end === -1 ? text.length : end + 2;
}

function quotedEnd(text: string, from: number, quote: string): number {
  let index = from;
  while (index < text.length && text[index] !== quote && text[index] !== "\n") {
    index += text[index] === "\\" ? 2 : 1;
  }
  return index;
}

/** Where the literal part that begins at `from` ends, and whether a "${" ended it. */
function templateEnd(text: string, from: number): { end: number; hole: boolean } {
  let index = from;
  while (index < text.length && text[index] !== "`") {
    if (text.startsWith("${", index)) return { end: index, hole: true };
    index += text[index] === "\\" ? 2 : 1;
  }
  return { end: index, hole: false };
}

function regExpEnd(text: string, from: number): number {
  let inClass = false;
  let index = from;
  while (index < text.length && text[index] !== "\n") {
    const character = text[index];
    if (character === "/" && !inClass) return index;
    if (character === "[") inClass = true;
    if (character === "]") inClass = false;
    index += character === "\\" ? 2 : 1;
  }
  return index;
}

function startsRegExp(text: string, index: number): boolean {
  const before = text.slice(Math.max(0, index - 100), index).trimEnd();
  if (/\b(return|typeof|case|in|of|await|yield|throw)$/.test(before)) return true;
  return !/[\w$)\]}"'`]$/.test(before);
}
