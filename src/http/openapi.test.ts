import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { fastify } from "fastify";
import { type CallName, calls } from "../control/calls.ts";
import { openApiDocument, schemaOf } from "./openapi.ts";

interface Operation {
  requestBody: { content: { "application/json": { schema: object } } };
  responses: { 200: { content: { "application/json": { schema: object } } } };
}

const document = openApiDocument("1") as {
  openapi: string;
  paths: Record<string, { post: Operation }>;
};
const names = Object.keys(calls) as CallName[];

test("every call is in the document, and the document is plain JSON", () => {
  assert.equal(document.openapi, "3.1.0");
  for (const name of names) assert.ok(document.paths[`/v1/${name}`]?.post, name);
  assert.deepEqual(JSON.parse(JSON.stringify(document)), document);
  const paths = Object.keys(document.paths).filter((path) => path.startsWith("/v1/"));
  const others = ["/v1/events", "/v1/session"];
  assert.deepEqual(paths.toSorted(), [...names.map((name) => `/v1/${name}`), ...others].toSorted());
});

/** A validator that knows the document and not the schemas that it was made from. */
async function documentAccepts() {
  const customOptions = {
    strict: false,
    coerceTypes: false as const,
    removeAdditional: false,
    useDefaults: false,
    validateFormats: false,
  };
  const app = fastify({ ajv: { customOptions } });
  for (const name of names) {
    const { post } = document.paths[`/v1/${name}`] as { post: Operation };
    const body = post.requestBody.content["application/json"].schema;
    app.post(`/${name}`, { schema: { body } }, async () => "accepted");
  }
  await app.ready();
  return async (name: CallName, input: unknown): Promise<boolean> => {
    const payload = JSON.stringify(input);
    const headers = { "content-type": "application/json" };
    const { statusCode } = await app.inject({ method: "POST", url: `/${name}`, headers, payload });
    assert.ok(statusCode === 200 || statusCode === 400, `${name} ${payload}: ${statusCode}`);
    return statusCode === 200;
  };
}

/** Keys and values that inputs have, and some that they have not, put together at random. */
const keys = [...new Set(names.flatMap((name) => Object.keys(propertiesOf(name))))];
const value = fc.oneof(
  fc.constantFrom<unknown>("", "disk", "disk@1", 0, 1, -1, 1.5, 2 ** 54, true, null, [], ["d"], {}),
  fc.constantFrom<unknown>("aGk=", "store.clean", ["", "d"], { kind: "unix", path: "/s" }),
  fc.constantFrom<unknown>({ snapId: 1, takenMs: 1, createdMs: 1 }, { memory: "1G" }),
);

function propertiesOf(name: CallName): object {
  const { properties = {} } = schemaOf(calls[name].input, "input") as { properties?: object };
  return properties;
}

test("the document accepts the inputs that the server accepts, and refuses the others", async () => {
  const accepts = await documentAccepts();
  const verdicts = { accepted: 0, refused: 0 };
  const input = fc.constantFrom(...names).chain((name) => {
    const own = Object.keys(propertiesOf(name));
    const key = fc.constantFrom(...(own.length === 0 ? keys : [...own, ...own, ...keys]));
    const object = fc.dictionary(key, value, { maxKeys: 5 });
    return fc.tuple(fc.constant(name), fc.oneof({ weight: 9, arbitrary: object }, value));
  });
  await fc.assert(
    fc.asyncProperty(input, async ([name, body]) => {
      const byServer = calls[name].input.safeParse(body).success;
      assert.equal(await accepts(name, body), byServer, `${name} ${JSON.stringify(body)}`);
      verdicts[byServer ? "accepted" : "refused"]++;
    }),
    { numRuns: 3000 },
  );
  assert.ok(verdicts.accepted > 300 && verdicts.refused > 300, JSON.stringify(verdicts));
});
