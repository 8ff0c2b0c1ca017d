// The ollama package of npm as a judge of the library, unmodified. Usage: node library.mjs URL REGISTRY
// REGISTRY is host and port of one that takes everything. Prints one JSON object: the name of each check, and why it
// failed or an empty text. The checks build on each other.

import assert from "node:assert/strict";
import { Ollama } from "ollama";

const [, , host, registry] = process.argv;
const client = new Ollama({ host });
const remote = `${registry}/team/travels:v1`;

async function statuses(stream) {
  const said = [];
  for await (const step of stream) said.push(step.status);
  return said;
}

const names = async () => (await client.list()).models.map((model) => model.name);
const digestOf = async (name) => (await client.list()).models.find((model) => model.name === name)?.digest;

const checks = {
  async create() {
    const asked = { model: "mine", from: "tiny", system: "Be brief.", parameters: { top_k: 3, stop: ["END"] }, license: "MIT" };
    assert.equal((await client.create(asked)).status, "success");
    const said = await statuses(await client.create({ ...asked, stream: true }));
    assert.equal(said.at(-1), "success");
    assert.equal(said.filter((status) => status === "success").length, 1);
  },

  async show() {
    const shown = await client.show({ model: "mine" });
    assert.match(shown.modelfile, /SYSTEM .*Be brief\./);
    assert.match(shown.parameters, /top_k +3/);
    assert.equal(shown.license, "MIT");
  },

  async list() {
    assert.ok((await names()).includes("mine:latest"), (await names()).join());
    assert.match(await digestOf("mine:latest"), /^[0-9a-f]{64}$/);
  },

  async copy() {
    assert.equal((await client.copy({ source: "mine", destination: remote })).status, "success");
    assert.equal(await digestOf(remote), await digestOf("mine:latest"));
  },

  async push() {
    assert.equal((await client.push({ model: remote, insecure: true })).status, "success");
    const said = await statuses(await client.push({ model: remote, insecure: true, stream: true }));
    assert.deepEqual([said[0], said.at(-1)], ["retrieving manifest", "success"]);
  },

  async delete() {
    assert.equal((await client.delete({ model: remote })).status, "success");
    assert.ok(!(await names()).includes(remote));
    await assert.rejects(client.delete({ model: remote }), { status_code: 404, message: /not found/ });
  },

  async pull() {
    const said = await statuses(await client.pull({ model: remote, insecure: true, stream: true }));
    assert.equal(said[0], "pulling manifest");
    assert.deepEqual(said.slice(-3), ["verifying sha256 digest", "writing manifest", "success"]);
    assert.ok(said.some((status) => /^pulling [0-9a-f]{12}$/.test(status)), said.join());
    assert.equal(await digestOf(remote), await digestOf("mine:latest"));
    assert.equal((await client.pull({ model: remote, insecure: true })).status, "success");
    const answer = await client.generate({ model: remote, prompt: "a", raw: true, options: { num_predict: 2 } });
    assert.ok(answer.done);
  },

  async refusals() {
    await assert.rejects(client.copy({ source: "nobody", destination: "x" }), { status_code: 404, message: /nobody/ });
    await assert.rejects(client.show({ model: "nobody" }), { status_code: 404 });
    await assert.rejects(client.create({ model: "x", from: "nobody" }), { status_code: 404 });
    await assert.rejects(client.create({ model: "../x", from: "tiny" }), { status_code: 422 });
    await assert.rejects(client.pull({ model: `${registry}/team/nothing`, insecure: true }), { status_code: 404 });
    const stream = await client.pull({ model: `${registry}/team/nothing`, insecure: true, stream: true });
    await assert.rejects(statuses(stream), /not found/);
    await assert.rejects(client.delete({ model: "tiny" }), { status_code: 409 });
    assert.ok(!(await names()).includes("x:latest"));
  },
};

const verdicts = {};
for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
    verdicts[name] = "";
  } catch (error) {
    verdicts[name] = error.stack || String(error);
  }
}
console.log(JSON.stringify(verdicts));
