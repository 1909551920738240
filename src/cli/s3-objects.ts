import type { ObjectStore } from "../host/object-store.ts";
import type { S3Options } from "./context.ts";
import { parseS3Url } from "./s3-place.ts";

/** The object store that a URL and the options for it name. */
export async function openObjects(url: string, s3: S3Options): Promise<ObjectStore> {
  // Loaded here, because the client is larger than all the rest, and no other store needs it.
  const { openS3ObjectStore } = await import("../host/node/s3-object-store.ts");
  const { AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, AWS_REGION } = process.env;
  const { endpoint = AWS_ENDPOINT_URL_S3 || AWS_ENDPOINT_URL } = s3;
  // Servers other than AWS mostly have no regions, but it is part of every signature.
  const region = s3.region ?? AWS_REGION ?? (endpoint === undefined ? undefined : "us-east-1");
  const pathStyle = s3.pathStyle ?? endpoint !== undefined;
  return openS3ObjectStore({ ...parseS3Url(url), endpoint, region, pathStyle });
}
