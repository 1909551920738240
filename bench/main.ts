/** npm run bench: see options.ts for what it can do, docs/performance.md for what it means. */
import { runCommand } from "./command.ts";
import { parseOptions } from "./options.ts";

const startMs = performance.now();
try {
  process.exitCode = await runCommand(parseOptions(process.argv.slice(2)), {
    print: (text) => console.log(text),
    progress: (line) => {
      const seconds = ((performance.now() - startMs) / 1000).toFixed(0).padStart(4);
      console.error(`${seconds} s  ${line}`);
    },
  });
} catch (error) {
  console.error(`bench: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
}
