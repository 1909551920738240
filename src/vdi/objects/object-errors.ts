import { type Completion, isPending } from "../../base/completion.ts";
import { type ErrorCode, isKelpieError, messageOf } from "../../base/errors.ts";
import { ObjectError, type Refusal } from "./objects.ts";

/** What is not here is an I/O error to a client. */
const refusals: Partial<Record<ErrorCode, Refusal>> = {
  invalid: "invalid",
  "not-found": "no-vdi",
  exists: "vdi-exists",
  busy: "locked",
  "no-space": "no-space",
  unsupported: "unsupported",
  closed: "stale",
};

/** Failures of the layers below as `ObjectError`s; what is there at once stays so. */
export function asObjectErrors<T>(action: () => Completion<T>): Completion<T> {
  let done: Completion<T>;
  try {
    done = action();
  } catch (error) {
    throw toObjectError(error);
  }
  if (!isPending(done)) return done;
  return done.catch((error) => {
    throw toObjectError(error);
  });
}

function toObjectError(error: unknown): unknown {
  // Our own mistakes stay what they are.
  if (error instanceof ObjectError || !isKelpieError(error)) return error;
  return new ObjectError(refusals[error.code] ?? "io", messageOf(error), { cause: error });
}
