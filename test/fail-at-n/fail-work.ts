import { workApart } from "../support/apart.ts";
import { namedCases } from "./call-cases.ts";
import { FailAtN, type FailAtNCounts, type FailAtNSettings } from "./fail-at-n.ts";
import { failLifecycle, type Lifecycle, lifecycles } from "./fail-lifecycle.ts";

export interface FailWork {
  /** Of a case, or the name of a lifecycle. */
  title: string;
  settings: FailAtNSettings;
}

workApart(runFailWork);

export async function runFailWork({ title, settings }: FailWork): Promise<FailAtNCounts> {
  if (title in lifecycles) return await failLifecycle(title as Lifecycle, settings);
  const one = namedCases.find((named) => named.title === title);
  if (one === undefined) throw new Error(`there is no case "${title}"`);
  return await new FailAtN(settings, one).run();
}
