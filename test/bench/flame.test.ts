import assert from "node:assert/strict";
import { test } from "node:test";
import { drawFlame } from "../../bench/flame/draw.ts";
import { type Box, countByKind, fold, prune } from "../../bench/flame/fold.ts";
import { parsePerfScript } from "../../bench/flame/perf-script.ts";

/** Of a recording of a server under random reads, shortened: three stacks of it, and one of a thread. */
const recorded = `MainThread 18028 
\tffffffff8158a51e filemap_read ([kernel.kallsyms])
\tffffffff821ed511 do_syscall_64 ([kernel.kallsyms])
\t          1013b8 preadv64v2 (/usr/lib/x86_64-linux-gnu/libc.so.6)
\t    7f58642f92b1 JS:*tryRead file:///checkout/src/host/node/file-handle.ts:81:10 (/tmp/perf-18.map)
\t    7f586431be9d JS:+'#pump file:///checkout/src/nbd/transmission.ts:120:8 (/tmp/perf-18.map)
\t         1632167 Builtins_JSEntry (/node)
\t          a23036 v8::internal::(anonymous namespace)::Invoke (/node)
\t          6e8471 node::Listener<std::pair<int> >::OnStreamRead(long, uv_buf_t const*) (/node)
\t         160cbb7 uv_run (/node)
\t           2724a __libc_start_call_main (/usr/lib/x86_64-linux-gnu/libc.so.6)

MainThread 18028 
\t    7f5864303704 JS:~ file:///checkout/node_modules/koffi/index.js:1:1 (/tmp/perf-18.map)
\t    7f586431be9d JS:*#pump file:///checkout/src/nbd/transmission.ts:120:8 (/tmp/perf-18.map)
\t          6e8471 node::Listener<std::pair<int> >::OnStreamRead(long, uv_buf_t const*) (/node)
\t         160cbb7 uv_run (/node)

MainThread 18028 
\t    7f58642b8ae7 JS:^onread node:internal/stream_base_commons:166:22 (/tmp/perf-18.map)
\t         160cbb7 uv_run (/node)

libuv-worker 18031 
\tffffffff81590000 fdatasync ([kernel.kallsyms])
\t           8f1f5 start_thread (/usr/lib/x86_64-linux-gnu/libc.so.6)
`;

const tree = () => fold(parsePerfScript(recorded, "/checkout"));

function outline(box: Box, depth = 0): string[] {
  const children = [...box.children.values()].flatMap((child) => outline(child, depth + 1));
  return [`${"  ".repeat(depth)}${box.kind} ${box.name} ${box.count}`, ...children];
}

test("recorded stacks fold into functions with their files, without what only leads to them", () => {
  assert.deepEqual(outline(tree()), [
    "native all 4",
    "  native MainThread 3",
    "    native node::Listener::OnStreamRead 2",
    "      kelpie #pump src/nbd/transmission.ts 2",
    "        kelpie tryRead src/host/node/file-handle.ts 1",
    "          native preadv64v2 1",
    "            kernel filemap_read 1",
    "        packages (anonymous) koffi/index.js 1",
    "    node onread node:internal/stream_base_commons 1",
    "  native libuv-worker 1",
    "    kernel fdatasync 1",
  ]);
});

test("a sample counts for the kind of its innermost function", () => {
  const counts = [...countByKind(tree())].filter(([, count]) => count > 0);
  assert.deepEqual(Object.fromEntries(counts), { kernel: 2, packages: 1, node: 1 });
});

test("boxes with few samples are left out, and are one box where they come to many", () => {
  const samples = ["a", "b", "c", "c", "c"].map((name) => ({
    thread: "main",
    frames: [{ kind: "kernel" as const, name }],
  }));
  assert.deepEqual(outline(prune(fold(samples), 2)), [
    "native all 5",
    "  native main 5",
    "    kernel c 3",
    "    native (others) 2",
  ]);
  assert.deepEqual(outline(prune(fold(samples), 3)).slice(2), ["    kernel c 3"]);
});

test("a drawing has a box for each function, as wide as its part, and no markup from names", () => {
  const svg = drawFlame("reads & more", tree());
  assert.equal(svg.match(/<g><title>/g)?.length, 11);
  assert.match(svg, /<title>all: 100\.0 %<\/title><rect x="10\.0" y="\d+" width="1179\.5"/);
  assert.match(
    svg,
    /<title>#pump src\/nbd\/transmission\.ts: 50\.0 %<\/title><rect [^>]*width="589\.5"/,
  );
  assert.match(svg, />reads &amp; more</);
  assert.match(svg, />kernel 50\.0 %</);
});
