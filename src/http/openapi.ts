import { z } from "zod";
import { type CallName, calls } from "../control/calls.ts";
import { serverEvent } from "../control/server-shapes.ts";
import { problem, problemType } from "./problem.ts";

type Json = Record<string, unknown>;

/** The API as an OpenAPI 3.1 document: made from the schemas that requests are checked with. */
export function openApiDocument(version: string): Json {
  const paths: Json = {};
  for (const name of Object.keys(calls) as CallName[])
    paths[`/v1/${name}`] = { post: callOf(name) };
  return {
    openapi: "3.1.0",
    info: { title: "Kelpie", version },
    paths: { ...paths, ...otherPaths },
    components: {
      schemas: { Problem: schemaOf(problem, "output") },
      securitySchemes: { token: { type: "http", scheme: "bearer" } },
    },
    security: [{ token: [] }],
  };
}

function callOf(name: CallName): Json {
  const { kind, input, output } = calls[name];
  const result = schemaOf(output, "output");
  const progress = {
    description: "One line each: any number with progress, then one with the result or the error.",
    schema: { type: "string" },
  };
  return {
    operationId: name,
    tags: [name.split(".")[0]],
    description: descriptions[kind],
    requestBody: { content: { "application/json": { schema: schemaOf(input, "input") } } },
    responses: {
      200: {
        description: "Done.",
        content: {
          "application/json": { schema: result },
          ...(kind === "work" ? { "application/x-ndjson": progress } : {}),
        },
      },
      default: problemResponse,
    },
  };
}

const descriptions = {
  query: "Changes nothing.",
  change: "Happens as a whole or not at all.",
  work: "May take long. job.start begins it without waiting.",
};

const problemResponse = {
  description: "It was refused, or failed.",
  content: { [problemType]: { schema: { $ref: "#/components/schemas/Problem" } } },
};

const text = { "text/plain": { schema: { type: "string" } } };

const otherPaths: Json = {
  "/v1/events": {
    get: {
      operationId: "events",
      tags: ["server"],
      description: "Server-sent events. The data of each is one of these, as JSON.",
      responses: {
        200: {
          description: "Until either side ends it.",
          content: { "text/event-stream": { schema: schemaOf(serverEvent, "output") } },
        },
        default: problemResponse,
      },
    },
  },
  "/v1/session": {
    post: {
      operationId: "session.begin",
      tags: ["session"],
      description: "Trades the token for a cookie that a browser keeps. Over TCP only.",
      responses: { 204: { description: "The cookie is set." }, default: problemResponse },
    },
    delete: {
      operationId: "session.end",
      tags: ["session"],
      description: "Takes the cookie back. Over TCP only.",
      responses: { 204: { description: "The cookie is gone." }, default: problemResponse },
    },
  },
  "/metrics": {
    get: {
      operationId: "metrics",
      tags: ["server"],
      description: "Figures for Prometheus.",
      responses: { 200: { description: "In its text format.", content: text } },
    },
  },
  "/healthz": {
    get: {
      operationId: "health",
      tags: ["server"],
      security: [],
      description: "Whether the server answers.",
      responses: { 200: { description: "It does.", content: text } },
    },
  },
  "/readyz": {
    get: {
      operationId: "readiness",
      tags: ["server"],
      security: [],
      description: "Whether the store takes writes.",
      responses: { 200: { description: "It does.", content: text }, default: problemResponse },
    },
  },
};

/** What is sent ("input": defaults may be left out) or what is answered. */
export function schemaOf(schema: z.ZodType, io: "input" | "output"): Json {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io, unrepresentable: "any" });
  return rest;
}
