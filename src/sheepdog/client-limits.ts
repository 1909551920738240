/** Everything a server could make grow, or wait for, has its limit here. */

/** More would only wait in the server instead of here. */
export const requestsInFlightMax = 128;
/** Of payloads out and answers in: 16 objects of the usual size. One more may be begun below it. */
export const bytesInFlightMax = 64 * 2 ** 20;
/** What one request carries; objects can be larger. */
export const pieceBytesMax = 4 * 2 ** 20;

/** A node that does not accept a connection by then is as good as gone. */
export const connectMs = 5_000;
/** Between two rounds of attempts to reach any node: as QEMU's driver. */
export const reconnectMs = 1_000;
/** How long a command tries to reach a node again before it gives up. */
export const giveUpMsDefault = 30_000;
/** A node from which nothing comes for twice as long, though something is asked, is left for another. */
export const silentMs = 15_000;
/** Waiting for what is in flight when the client closes. */
export const closeMs = 5_000;
/** A request that makes a server break the protocol is not sent to a third one. */
export const violationsMax = 2;

/** Parents that are followed to find out where a point stands: more snapshots than anybody keeps. */
export const lineageMax = 65_536;
/** Entries of an inode that are read at once: 1 MiB. */
export const entriesPerRead = 2 ** 18;
/** Entries dropped by one request when a VDI is deleted: as `dog`. */
export const wipedPerRequest = 128;
/** And how far apart they may be: 256 KiB of zeros, most of which are there already. */
export const wipedEntriesMax = 2 ** 16;
/** Headers read at once when points are listed. */
export const headersAtOnce = 32;
/** Attempts at an operation whose answers are lost. */
export const resentMax = 3;
