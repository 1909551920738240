const [begin, end] = ["<!-- growth -->", "<!-- /growth -->"];

/** A document with the tables between its two marks, in the place of what was there. */
export function withTables(document: string, tables: string): string {
  const [from, to] = [document.indexOf(begin), document.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`the document does not have ${begin} and ${end}`);
  const [before, after] = [document.slice(0, from + begin.length), document.slice(to)];
  return `${before}\n\n${tables}\n\n${after}`;
}
