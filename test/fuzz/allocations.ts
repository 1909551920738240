/**
 * Counts what is asked of the memory while `body` runs: what a length field makes a parser allocate is
 * seen here, whether or not anything is ever written there.
 */
export async function countAllocations<T>(
  body: () => Promise<T> | T,
): Promise<{ result: T; largestBytes: number; totalBytes: number }> {
  const counts = { largestBytes: 0, totalBytes: 0 };
  const note = (sizeBytes: number) => {
    if (!(sizeBytes >= 0)) return;
    counts.largestBytes = Math.max(counts.largestBytes, sizeBytes);
    counts.totalBytes += sizeBytes;
  };
  const restore = [...watchConstructors(note), ...watchBuffers(note)];
  try {
    return { result: await body(), ...counts };
  } finally {
    for (const undo of restore) undo();
  }
}

const constructors = ["ArrayBuffer", "Uint8Array", "Uint16Array", "Uint32Array", "Float64Array"];

/** `new Uint32Array(count)` and the like; views of memory that is there count for nothing. */
function watchConstructors(note: (sizeBytes: number) => void): (() => void)[] {
  const globals = globalThis as unknown as Record<string, NewableFunction>;
  return constructors.map((name) => {
    const original = globals[name] as NewableFunction & { BYTES_PER_ELEMENT?: number };
    globals[name] = new Proxy(original, {
      construct(target, args: [unknown], newTarget) {
        const [size] = args;
        const width = original.BYTES_PER_ELEMENT ?? 1;
        if (typeof size === "number") note(size * width);
        else if (size instanceof Object && "length" in size) note(Number(size.length) * width);
        return Reflect.construct(target, args, newTarget === globals[name] ? target : newTarget);
      },
    });
    return () => {
      globals[name] = original;
    };
  });
}

function watchBuffers(note: (sizeBytes: number) => void): (() => void)[] {
  const makers = Buffer as unknown as Record<string, (size: unknown, ...rest: unknown[]) => Buffer>;
  return ["alloc", "allocUnsafe", "allocUnsafeSlow"].map((name) => {
    const original = makers[name] as (size: unknown, ...rest: unknown[]) => Buffer;
    makers[name] = (size, ...rest) => {
      note(Number(size));
      return original.call(Buffer, size, ...rest);
    };
    return () => {
      makers[name] = original;
    };
  });
}
