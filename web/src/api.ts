import type { CallInput, CallName, CallOutput } from "../../src/control/calls.ts";

/** What the server said about a call that it refused, or that failed. */
export class CallError extends Error {
  readonly status: number;
  readonly remedy: string | undefined;

  constructor(
    message: string,
    { status, remedy }: { status: number; remedy?: string | undefined },
  ) {
    super(message);
    this.name = "CallError";
    this.status = status;
    this.remedy = remedy;
  }
}

/** Nobody answers for so long: it is gone, or the way to it is. */
const answerMs = 30_000;

/** Asks the server. Fails with a `CallError`; status 0 if it does not answer. */
export async function call<N extends CallName>(
  name: N,
  input: CallInput<N>,
): Promise<CallOutput<N>> {
  const response = await ask(`/v1/${name}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(input),
  });
  return (await response.json()) as CallOutput<N>;
}

/** Trades the token for a cookie, which goes along with everything from then on. */
export async function beginSession(token: string): Promise<void> {
  await ask("/v1/session", { method: "POST", headers: { authorization: `Bearer ${token}` } });
}

async function ask(path: string, options: RequestInit): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, { ...options, signal: AbortSignal.timeout(answerMs) });
  } catch {
    throw new CallError("the server does not answer", { status: 0 });
  }
  if (response.ok) return response;
  const { status } = response;
  const said = (await response.json().catch(() => ({}))) as { detail?: string; remedy?: string };
  throw new CallError(said.detail ?? `the server says ${status}`, { status, remedy: said.remedy });
}
