import { hostname } from "node:os";

/** For people on other machines. */
export function machineName(): string {
  return hostname();
}
