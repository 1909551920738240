/**
 * Everything a peer could make grow has its limit here. The server's can be lowered in its settings,
 * mostly by tests.
 */

/**
 * Advertised minimum. Of what is no multiple of it a client reads both ends first and then writes: QEMU saves
 * memory in pieces of any size, and would ask three times for each.
 */
export const blockMinimumBytes = 1;
/** Advertised preference: the unit in which Kelpie stores. */
export const blockPreferredBytes = 4096;
/** What the specification recommends, and what QEMU and libnbd never exceed. */
export const payloadBytesMax = 32 * 2 ** 20;
/**
 * A longer write is read and thrown away, so that the client gets its error and goes on, up to
 * here: nobody sends this by accident, and following the stream further is work for nothing.
 */
export const payloadBytesDiscardMax = 256 * 2 ** 20;

/** Linux asks for up to 128 at once on one connection; QEMU for 16, libnbd for 64. */
export const requestsInFlightMax = 128;
/** Two requests of the largest size. One more may be begun below it, so 96 MiB are the most. */
export const bytesInFlightMax = 2 * payloadBytesMax;

/** The answer to one block status request: 256 KiB a context; clients ask again for the rest. */
export const blockStatusExtents = 16_384;
/** Each adds a chunk to every block status answer. QEMU asks for two, backup tools for one. */
export const contextsMax = 64;

/** Longest option: an export name and over ten of the longest queries. */
export const optionBytesMax = 64 * 1024;
/** A longer option is skipped and answered with TOO_BIG up to here. */
export const optionBytesDiscardMax = 2 ** 20;
/** libnbd and QEMU send fewer than ten; listing tools one or two for each export. */
export const optionsMax = 1024;
/** A handshake takes a few round trips. Longer, and somebody only holds the connection. */
export const handshakeMs = 30_000;
/** How long we wait for a peer that is to take its last replies and close. */
export const closeMs = 5_000;
/**
 * Handshakes at once. They last milliseconds; who begins one more takes the place of the oldest, so that a
 * thousand that only hold their connection keep nobody out.
 */
export const handshakesMax = 128;
/** A VM host has tens of disks with a few connections each. Each takes a file descriptor of 1,024. */
export const connectionsMax = 512;

/** A server may offer as many exports as it likes; a client that lists them stops here. */
export const listedExportsMax = 65_536;
