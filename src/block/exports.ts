import type { BlockDevice } from "./block-device.ts";

/** What a server offers: names that lead to devices. */
export interface Exports {
  list(): Promise<ExportSummary[]>;
  /**
   * Opens an export for one client. Fails with "not-found" for an unknown name, "busy" when the
   * disk is claimed by somebody else. The caller closes what it opened.
   */
  open(name: string, client: ExportClient): Promise<OpenExport>;
}

export interface ExportSummary {
  name: string;
  description: string;
}

/** Who asks, so that it can be listed: `vdi info` shows who is connected. */
export interface ExportClient {
  protocol: "nbd" | "sheepdog" | "library" | "control";
  peer: string;
}

export interface OpenExport {
  /** The canonical name: what was asked for may have been an alias or empty. */
  readonly name: string;
  readonly description: string;
  readonly device: BlockDevice;
  close(): Promise<void>;
}
