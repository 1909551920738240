/** One step inside a process, small enough that what is around it would hide it. */
export interface MicroBench {
  name: string;
  /** What it needs is made here, and is gone when the subject is closed. */
  prepare(): Promise<MicroSubject>;
}

export interface MicroSubject {
  /** Does it so many times. */
  run(count: number): void | Promise<void>;
  /** Throws if what was done is not what should have been, or was not done `count` times in all. */
  check(count: number): void;
  close?(): Promise<void>;
}

export interface MicroResult {
  name: string;
  /** Of each sample, in order of time. */
  nsPerOperation: number[];
  operations: number;
}

export interface MicroSettings {
  samples: number;
  /** Of one sample, about. */
  sampleMs: number;
  /** So many at first; it is doubled until they take a while. */
  countMin: number;
}

/** Runs it until one run takes as long as a sample shall, and that many times again for each sample. */
export async function runMicro(bench: MicroBench, settings: MicroSettings): Promise<MicroResult> {
  const { samples, sampleMs, countMin } = settings;
  const subject = await bench.prepare();
  let operations = 0;
  const timed = async (count: number) => {
    const startMs = performance.now();
    const done = subject.run(count);
    if (done !== undefined) await done;
    operations += count;
    return performance.now() - startMs;
  };
  try {
    let count = countMin;
    // This also gives the compiler its time.
    while ((await timed(count)) < sampleMs) count *= 2;
    const nsPerOperation: number[] = [];
    for (let sample = 0; sample < samples; sample++) {
      nsPerOperation.push(((await timed(count)) * 1e6) / count);
    }
    subject.check(operations);
    return { name: bench.name, nsPerOperation, operations };
  } finally {
    await subject.close?.();
  }
}
