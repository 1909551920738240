import * as admin from "./admin-operations.ts";
import * as attribute from "./attribute-operations.ts";
import * as cluster from "./cluster-operations.ts";
import * as inspection from "./inspection-operations.ts";
import * as logLevel from "./log-level.ts";
import type { Operation, Run } from "./operation.ts";
import { result } from "./results.ts";
import * as vdi from "./vdi-operations.ts";
import { opcode } from "./wire-opcodes.ts";

const object = (name: string): Operation => ({ name, kind: "object" });
const local = (name: string, run: Run): Operation => ({ name, kind: "local", run });
const serial = (name: string, run: Run): Operation => ({ name, kind: "cluster", run });
const refused = (name: string, resultCode: number, reason: string): Operation => {
  return { name, kind: "refused", result: resultCode, reason };
};

const { noSupport, invalidParameters } = result;
const oneNode = "nodes tell each other this, and there is one node";
const noCopies =
  "copies are numbers that are kept and reported; the store's backend protects the data";
const notBuilt =
  "a part that servers are built without unless asked, which then do not know the opcode";

/** Every opcode that is answered with more than "invalid parameters", by number. */
export const operations: ReadonlyMap<number, Operation> = new Map([
  [opcode.createAndWriteObject, object("CREATE_AND_WRITE_OBJ")],
  [opcode.readObject, object("READ_OBJ")],
  [opcode.writeObject, object("WRITE_OBJ")],
  [opcode.removeObject, object("REMOVE_OBJ")],
  [opcode.discardObject, object("DISCARD_OBJ")],
  [opcode.flushVdi, object("FLUSH_VDI")],
  [opcode.newVdi, serial("NEW_VDI", vdi.newVdi)],
  [opcode.lockVdi, serial("LOCK_VDI", vdi.lockVdi)],
  [opcode.releaseVdi, serial("RELEASE_VDI", vdi.releaseVdi)],
  [opcode.getVdiInfo, serial("GET_VDI_INFO", vdi.getVdiInfo)],
  [opcode.deleteVdi, serial("DEL_VDI", vdi.deleteVdi)],
  [opcode.readVdis, local("READ_VDIS", vdi.readVdis)],
  [opcode.readDeletedVdis, local("READ_DEL_VDIS", vdi.readDeletedVdis)],
  [opcode.getVdiCopies, local("GET_VDI_COPIES", vdi.getVdiCopies)],
  [opcode.getClusterDefault, local("GET_CLUSTER_DEFAULT", cluster.getClusterDefault)],
  [opcode.getVdiAttribute, serial("GET_VDI_ATTR", attribute.getVdiAttribute)],

  [opcode.getNodeList, local("GET_NODE_LIST", cluster.getNodeList)],
  [opcode.statSheep, local("STAT_SHEEP", cluster.statSheep)],
  [opcode.statCluster, local("STAT_CLUSTER", cluster.statCluster)],
  [opcode.clusterInfo, local("CLUSTER_INFO", cluster.clusterInfo)],
  [opcode.getStoreList, local("GET_STORE_LIST", cluster.getStoreList)],
  [opcode.statRecovery, local("STAT_RECOVERY", cluster.statRecovery)],
  [opcode.getRecovery, local("GET_RECOVERY", cluster.getRecovery)],
  [opcode.setRecovery, local("SET_RECOVERY", cluster.setRecovery)],
  [opcode.enableRecover, serial("ENABLE_RECOVER", cluster.enableRecover)],
  [opcode.disableRecover, serial("DISABLE_RECOVER", cluster.disableRecover)],
  [opcode.mdInfo, local("MD_INFO", cluster.mdInfo)],
  [opcode.stat, local("STAT", cluster.stat)],
  [opcode.getVnodes, local("GET_VNODES", cluster.getVnodes)],
  [opcode.getLogLevel, local("GET_LOGLEVEL", logLevel.getLogLevel)],
  [opcode.setLogLevel, local("SET_LOGLEVEL", logLevel.setLogLevel)],
  [opcode.reweight, serial("REWEIGHT", cluster.nothingToDo)],
  [opcode.noOperation, local("(no operation)", cluster.nothingToDo)],

  [opcode.getHash, local("GET_HASH", inspection.getHash)],
  [opcode.exist, local("EXIST", inspection.exist)],
  [opcode.oidsExist, local("OIDS_EXIST", inspection.oidsExist)],

  [opcode.makeFs, serial("MAKE_FS", admin.makeFs)],
  [opcode.shutdown, serial("SHUTDOWN", admin.shutdown)],
  [opcode.killNode, local("KILL_NODE", admin.killNode)],

  [
    opcode.forceRecover,
    refused("FORCE_RECOVER", result.forceRecover, "as every cluster that runs answers"),
  ],
  [opcode.notifyVdiAdd, refused("NOTIFY_VDI_ADD", noSupport, "it would give a vid by number")],
  [
    opcode.mdPlug,
    refused("MD_PLUG", noSupport, "the store is one directory; its file system has the disks"),
  ],
  [
    opcode.mdUnplug,
    refused("MD_UNPLUG", noSupport, "the store is one directory, and would be gone"),
  ],
  [opcode.alterClusterCopy, refused("ALTER_CLUSTER_COPY", noSupport, noCopies)],
  [opcode.alterVdiCopy, refused("ALTER_VDI_COPY", noSupport, noCopies)],
  [opcode.repairReplica, refused("REPAIR_REPLICA", noSupport, "there is no other replica")],
  [opcode.setVnodes, refused("SET_VNODES", noSupport, "with one node there is nothing to weigh")],
  [opcode.createAndWritePeer, refused("CREATE_AND_WRITE_PEER", noSupport, oneNode)],
  [opcode.readPeer, refused("READ_PEER", noSupport, oneNode)],
  [opcode.writePeer, refused("WRITE_PEER", noSupport, oneNode)],
  [opcode.removePeer, refused("REMOVE_PEER", noSupport, oneNode)],
  [opcode.decref, refused("DECREF", noSupport, oneNode)],
  [opcode.decrefPeer, refused("DECREF_PEER", noSupport, oneNode)],
  [opcode.cleanup, refused("CLEANUP", noSupport, oneNode)],
  [opcode.notifyVdiDelete, refused("NOTIFY_VDI_DEL", noSupport, oneNode)],
  [opcode.getObjectList, refused("GET_OBJ_LIST", noSupport, oneNode)],
  [opcode.getEpoch, refused("GET_EPOCH", noSupport, oneNode)],
  [opcode.completeRecovery, refused("COMPLETE_RECOVERY", noSupport, oneNode)],
  [opcode.vdiStateCheckpoint, refused("VDI_STATE_CHECKPOINT_CTL", noSupport, oneNode)],
  [opcode.inodeCoherence, refused("INODE_COHERENCE", noSupport, oneNode)],
  [opcode.traceEnable, refused("TRACE_ENABLE", invalidParameters, notBuilt)],
  [opcode.traceDisable, refused("TRACE_DISABLE", invalidParameters, notBuilt)],
  [opcode.traceStatus, refused("TRACE_STATUS", invalidParameters, notBuilt)],
  [opcode.traceReadBuffer, refused("TRACE_READ_BUF", invalidParameters, notBuilt)],
  [opcode.nfsCreate, refused("NFS_CREATE", invalidParameters, notBuilt)],
  [opcode.nfsDelete, refused("NFS_DELETE", invalidParameters, notBuilt)],
]);
