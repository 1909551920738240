import { vdiStateBytes } from "./wire-vdi-state.ts";

/**
 * Everything a peer could make grow has its limit here. The server's can be lowered in its settings,
 * mostly by tests.
 */

/**
 * The longest payload of a request or a reply. QEMU cuts its requests at objects, of 4 MiB unless
 * somebody chose otherwise; `dog` moves whole objects, so disks with objects up to this size are its.
 */
export const payloadBytesMax = 64 * 2 ** 20;
/** A longer write is thrown away as it comes and answered with an error, up to the largest object. */
export const payloadBytesDiscardMax = 2 ** 31;
/** Of a request that moves no data. The longest is `dog`'s list of a disk's objects: 2^20 times 8. */
export const callPayloadBytesMax = 16 * 2 ** 20;
/** States of VDIs in one reply: as many as have room in the longest. */
export const vdiStatesMax = Math.floor(payloadBytesMax / vdiStateBytes);

/** QEMU has as many at once as its guests have requests; more than this wait in the socket. */
export const requestsInFlightMax = 128;
/** One more may be begun below it, and one more be arriving. */
export const bytesInFlightMax = payloadBytesMax;

/** A connection may be silent for ever, but not in the middle of a request. */
export const stalledMs = 30_000;
/** How long we wait for a peer that is to take its last replies and close. */
export const closeMs = 5_000;
/** QEMU has one for each disk and makes others for moments. Each takes a file descriptor of 1,024. */
export const connectionsMax = 512;
