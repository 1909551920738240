import { KelpieError } from "../../base/errors.ts";

/** Fails if people would see a snapshot that is not complete. */
export function refuseIncomplete(
  points: readonly number[],
  registry: { nameOfPoint?(point: number): string | undefined },
): void {
  const names = points.flatMap((point) => registry.nameOfPoint?.(point) ?? []);
  if (names.length === 0) return;
  throw new KelpieError("corrupt", `not all of ${names.join(", ")} had been sent`, {
    remedy: "Start the gateway that wrote it; or `kelpie serve --accept-loss`, which deletes it.",
  });
}
