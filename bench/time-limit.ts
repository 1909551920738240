/**
 * What `action` comes to; rejects if that is not known in time, with an error that names it. It is not
 * ended by that: whoever started it does, in `giveUp`.
 */
export async function within<T>(
  limit: { what: string; ms: number; giveUp?: () => void },
  action: Promise<T>,
): Promise<T> {
  const { what, ms, giveUp } = limit;
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => {
      giveUp?.();
      reject(new Error(`${what}: not done in ${ms / 1000} s`));
    }, ms);
  });
  try {
    return await Promise.race([action, late]);
  } finally {
    clearTimeout(timer);
  }
}
