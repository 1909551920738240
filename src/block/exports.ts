import type { BlockDevice } from "./block-device.ts";
import type { RequestMeter } from "./request-meter.ts";

/** What a server offers: names that lead to devices. */
export interface Exports {
  /** For everybody, or what `client` may open where that makes a difference. */
  list(client?: ExportClient): Promise<ExportSummary[]>;
  /**
   * Opens an export for one client. Fails with "not-found" for an unknown name, "busy" when the
   * disk is claimed by somebody else, "denied" when this client may not. The caller closes what it opened.
   */
  open(name: string, client: ExportClient): Promise<OpenExport>;
}

export interface ExportSummary {
  name: string;
  description: string;
}

/** Who asks, so that it can be listed, `vdi info` shows who is connected, and be let in or not. */
export interface ExportClient {
  protocol: "nbd" | "sheepdog" | "library" | "control";
  /** As `Connection.peer`. */
  peer: string;
  /** The common name in the certificate it has shown, which is a good one. */
  certificate?: string | undefined;
}

export interface OpenExport {
  /** The canonical name: what was asked for may have been an alias or empty. */
  readonly name: string;
  /** The disk that it is of, where exports have disks. */
  readonly disk?: string | undefined;
  readonly description: string;
  readonly device: BlockDevice;
  /** Told of each request, if somebody wants to know. */
  readonly meter?: RequestMeter | undefined;
  close(): Promise<void>;
}
