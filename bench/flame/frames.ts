/** What a function belongs to, which is its colour. */
export type Kind = "kelpie" | "packages" | "node" | "native" | "kernel";

export interface Frame {
  kind: Kind;
  /** As a box shows it: the function, and of JavaScript the file. */
  name: string;
}

/** Of the file in which V8 says where its code is. */
const codeMap = /\/perf-\d+\.map$/;
/** "JS:*read file:///…/src/store/tip.ts:12:3"; the signs tell how far it was compiled. */
const javaScript = /^[A-Za-z]+:[*~^+']*(\S*) ((?:file:\/\/|node:|\/).+):\d+:\d+$/;

/** `root` is the directory of the checkout. */
export function frameOf(symbol: string, file: string, root: string): Frame {
  const isKernel = /^\[(kernel|guest\.kernel|vdso|unknown\.k)/.test(file) || file.endsWith(".ko");
  if (isKernel) return { kind: "kernel", name: symbol };
  const [, name, source] = (codeMap.test(file) ? javaScript.exec(symbol) : null) ?? [];
  if (name !== undefined && source !== undefined) return sourceFrame(name, source, root);
  return { kind: "native", name: nativeName(symbol) };
}

function sourceFrame(name: string, source: string, root: string): Frame {
  const called = name === "" ? "(anonymous)" : name;
  if (source.startsWith("node:")) return { kind: "node", name: `${called} ${source}` };
  const path = source.replace(/^file:\/\//, "");
  const [, dependency] = /\/node_modules\/(.+)$/.exec(path) ?? [];
  if (dependency !== undefined) return { kind: "packages", name: `${called} ${dependency}` };
  const inside = path.startsWith(`${root}/`) ? path.slice(root.length + 1) : path;
  return { kind: "kelpie", name: `${called} ${inside}` };
}

/** Without the types of templates and parameters. */
function nativeName(symbol: string): string {
  let [name, depth] = ["", 0];
  const short = symbol
    .replaceAll("(anonymous namespace)::", "")
    .replace(/^(non-)?virtual thunk to /, "")
    .replace(/^Builtin:/, "Builtins_");
  for (const character of short) {
    if (character === "(" && depth === 0 && name !== "") break;
    if (character === "<") depth++;
    if (depth === 0) name += character;
    if (character === ">") depth = Math.max(0, depth - 1);
  }
  return name;
}

/** How V8 and the kernel get from one function to another, and how a process gets to its event loop. */
const plumbing: readonly RegExp[] = [
  /^Builtins_(JSEntry|JSRunMicrotasksEntry|InterpreterEntryTrampoline|AsyncFunctionAwait)/,
  /^Builtins_(Call|Construct|FunctionPrototype|Interpreter|PromiseFulfill|Baseline)/,
  /^v8::(internal::Invoke|internal::Execution|Function::Call|internal::MicrotaskQueue)/,
  /^(node::InternalMakeCallback|node::MakeCallback|node::AsyncWrap::MakeCallback)/,
  /^(do_syscall_64|x64_sys_call|entry_SYSCALL_64|__x64_sys_|__do_sys_|syscall_|ret_from_fork)/,
  /^(\[unknown\]|_start|__libc_start|main$|node::Start|node::NodeMainInstance|node::SpinEventLoop)/,
  /^(start_thread|__clone|clone3?|thread_start|uv_run|uv__thread_start)/,
];

/** They are left out, and their time counts for what called them. */
export function isPlumbing({ kind, name }: Frame): boolean {
  if (kind !== "native" && kind !== "kernel") return false;
  return plumbing.some((pattern) => pattern.test(name));
}
