import { result } from "../../../src/sheepdog/results.ts";
import {
  encodeClusterInfo,
  encodeEpoch,
  epochHeaderBytes,
} from "../../../src/sheepdog/wire-cluster.ts";
import { type ClusterNode, encodeNodes, nodeBytes } from "../../../src/sheepdog/wire-node.ts";
import { opcode } from "../../../src/sheepdog/wire-opcodes.ts";
import { decodeClusterFields, type RequestPrefix } from "../../../src/sheepdog/wire-request.ts";
import { encodeNodeAnswer } from "../../../src/sheepdog/wire-response.ts";
import { decodeTime } from "../../../src/sheepdog/wire-time.ts";
import { type OriginalSheep, Refused } from "./original-sheep.ts";

/** What a node knows of its cluster. */
export class OriginalCluster {
  readonly nodes: ClusterNode[] = [
    { host: "127.0.0.1", port: 7000, vnodes: 128, zone: 16777343, spaceBytes: 2 ** 30 },
    { host: "127.0.0.1", port: 7001, vnodes: 64, zone: 16777343, spaceBytes: 2 ** 30 },
  ];
  /** 0: not formatted. */
  createdMs = 1_400_000_000_000;
  copies = 2;
  copyPolicy = 0;
  flags = 4;
  storeName = "plain";
  isShutDown = false;

  /** Undefined for opcodes that are not of the cluster. A refusal may come with a payload. */
  serve(
    sheep: OriginalSheep,
    request: { prefix: RequestPrefix; header: Uint8Array; payload: Uint8Array },
    fields: Uint8Array,
  ): { payload: Uint8Array; result: number } | undefined {
    const { prefix, header, payload } = request;
    const none = { payload: new Uint8Array(0), result: result.success };
    switch (prefix.opcode) {
      case opcode.getNodeList:
        encodeNodeAnswer(fields, 0, { nodes: this.nodes.length });
        return { ...none, payload: encodeNodes(this.nodes) };
      case opcode.statSheep:
        encodeNodeAnswer(fields, 0, { sizeBytes: 2 ** 30, freeBytes: 2 ** 29 });
        return none;
      case opcode.clusterInfo:
        return { ...none, payload: encodeClusterInfo(this.#info(sheep)) };
      case opcode.statCluster:
        return this.#epochs(decodeClusterFields(header, 0).nodes, prefix.dataLength);
      case opcode.makeFs: {
        const wanted = decodeClusterFields(header, 0);
        this.createdMs = decodeTime(header, 24);
        this.copies = wanted.copies;
        this.copyPolicy = wanted.copyPolicy;
        this.flags = wanted.clusterFlags;
        this.storeName = new TextDecoder().decode(payload.subarray(0, -1));
        if (payload.at(-1) !== 0) throw new Refused(result.invalidParameters);
        if (this.storeName !== "plain" && this.storeName !== "tree") {
          throw new Refused(result.noStore);
        }
        sheep.blockSizeShift = wanted.blockSizeShift;
        sheep.format();
        return none;
      }
      case opcode.shutdown:
        this.isShutDown = true;
        return none;
      default:
        return undefined;
    }
  }

  #info(sheep: OriginalSheep) {
    return {
      protocolVersion: 2,
      recoveryDisabled: false,
      epoch: 2,
      createdMs: this.createdMs,
      clusterFlags: this.flags,
      copies: this.copies,
      copyPolicy: this.copyPolicy,
      status: 1,
      blockSizeShift: sheep.blockSizeShift,
      storeName: this.storeName,
      nodes: this.nodes,
    };
  }

  #epochs(room: number, bytesMax: number): { payload: Uint8Array; result: number } {
    const isFormatted = this.createdMs !== 0;
    const code = isFormatted ? result.success : result.waitForFormat;
    if (!isFormatted) return { payload: new Uint8Array(0), result: code };
    // An epoch of the past had more nodes.
    const members = [this.nodes, Array.from({ length: 40 }, () => this.nodes[0] as ClusterNode)];
    if (room < 40) return { payload: new Uint8Array(0), result: result.bufferSmall };
    const records = members.map((nodes, age) =>
      encodeEpoch(
        {
          clusterCreatedMs: age === 0 ? this.createdMs : 0,
          timeMs: this.createdMs + 60_000 * (2 - age),
          epoch: 2 - age,
          recoveryDisabled: false,
          copies: this.copies,
          copyPolicy: this.copyPolicy,
          clusterFlags: this.flags,
          storeName: this.storeName,
          nodes,
        },
        room,
      ),
    );
    const fitting = Math.floor(bytesMax / (epochHeaderBytes + room * nodeBytes));
    return { payload: Buffer.concat(records.slice(0, fitting)), result: code };
  }
}
