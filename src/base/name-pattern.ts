/** A pattern for names, in which `*` stands for any characters, none too. Everything else is itself. */
export function namePattern(text: string): RegExp {
  const parts = text.split("*").map((part) => part.replace(/[\\^$.|?+()[\]{}]/g, "\\$&"));
  return new RegExp(`^${parts.join(".*")}$`, "su");
}
