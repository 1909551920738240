import { z } from "zod";

/** How fast a disk may be used, as the catalog keeps it. At least one of the rates is there. */
export const qosFields = z.strictObject({
  opsPerSecond: z.number().int().min(1).max(100_000_000).optional(),
  bytesPerSecond: z
    .number()
    .int()
    .min(4096)
    .max(2 ** 50)
    .optional(),
  /** How long a disk that is not used saves up for. */
  burstMs: z.number().int().min(1).max(3_600_000),
});

export type Qos = z.infer<typeof qosFields>;
