import assert from "node:assert/strict";
import { test } from "node:test";
import { Admission } from "./admission.ts";

function request() {
  let finish: () => void = () => {};
  const done = new Promise<void>((resolve) => {
    finish = resolve;
  });
  return { done, finish: () => finish() };
}

test("a shut door lets those inside finish, and others wait", async () => {
  const door = new Admission();
  const inside = request();
  const events: string[] = [];
  const first = Promise.resolve(door.run(() => inside.done)).then(() => events.push("first"));
  const closed = door.close().then(() => events.push("closed"));
  const late = Promise.resolve(door.run(() => "late")).then((text) => events.push(text));
  await new Promise(setImmediate);
  assert.deepEqual(events, []);
  inside.finish();
  await Promise.all([first, closed]);
  assert.deepEqual(events.sort(), ["closed", "first"]);
  door.open();
  await late;
  assert.equal(
    door.run(() => 5),
    5,
    "nothing to wait for",
  );
});

test("two that shut it are both told, and it opens with the second", async () => {
  const door = new Admission();
  const inside = request();
  const running = door.run(() => inside.done);
  const closers = [door.close(), door.close()];
  inside.finish();
  await Promise.all([running, ...closers]);
  let isIn = false;
  const late = Promise.resolve(
    door.run(() => {
      isIn = true;
    }),
  );
  door.open();
  await new Promise(setImmediate);
  assert.equal(isIn, false);
  door.open();
  await late;
  assert.ok(isIn);
});

test("a request that fails leaves like any other", async () => {
  const door = new Admission();
  const failing = Promise.resolve(door.run(() => Promise.reject(new Error("no"))));
  const closed = door.close();
  await assert.rejects(failing, /no/);
  await closed;
  door.open();
});

test("requests that one promise answers are inside until it does, also the later ones", async () => {
  const door = new Admission();
  const batch = request();
  const other = request();
  void door.run(() => batch.done);
  void door.run(() => other.done);
  void door.run(() => batch.done);
  void door.run(() => batch.done);
  let isDrained = false;
  const closed = door.close().then(() => {
    isDrained = true;
  });
  other.finish();
  await new Promise(setImmediate);
  assert.equal(isDrained, false);
  batch.finish();
  await closed;
  door.open();
});
