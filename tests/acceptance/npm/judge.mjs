// The ollama package of npm as a judge, unmodified. Usage: node judge.mjs URL
// Prints one JSON object: the name of each check, and why it failed or an empty text.

import assert from "node:assert/strict";
import { Ollama } from "ollama";

const [, , host] = process.argv;
const client = new Ollama({ host });
const messages = [{ role: "user", content: "Hello!" }];
const options = { num_predict: 12, temperature: 0 };
const city = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const weather = {
  type: "function",
  function: { name: "get_weather", description: "Get the current weather in a city", parameters: city },
};

async function gathered(stream) {
  const pieces = [];
  for await (const piece of stream) pieces.push(piece);
  return pieces;
}

const checks = {
  async list() {
    const names = (await client.list()).models.map((model) => model.name);
    assert.ok(names.includes("tiny:latest"), names.join());
  },

  async show() {
    const shown = await client.show({ model: "tiny" });
    assert.equal(shown.details.family, "llama");
    assert.ok(shown.capabilities.includes("completion"));
  },

  async chat() {
    const answer = await client.chat({ model: "endless", messages, options });
    assert.ok(answer.message.content);
    assert.deepEqual([answer.done, answer.done_reason, answer.eval_count], [true, "length", 12]);
    assert.ok(!Number.isNaN(Date.parse(answer.created_at)));
  },

  async stream() {
    const pieces = await gathered(await client.chat({ model: "endless", messages, options, stream: true }));
    const whole = await client.chat({ model: "endless", messages, options });
    assert.equal(pieces.map((piece) => piece.message.content).join(""), whole.message.content);
    assert.equal(pieces.filter((piece) => piece.done).length, 1);
    assert.ok(pieces.length > 6);
  },

  async tools() {
    const asked = [{ role: "user", content: "What is the weather in Paris?" }];
    const patient = { num_predict: 300, temperature: 0 };
    const answer = await client.chat({ model: "localmodels", messages: asked, tools: [weather], options: patient });
    assert.equal(answer.message.tool_calls.length, 1);
    assert.equal(answer.message.tool_calls[0].function.name, "get_weather");
    assert.equal(typeof answer.message.tool_calls[0].function.arguments.city, "string");
  },

  async schema() {
    const format = { type: "object", properties: { wet: { type: "boolean" } }, required: ["wet"] };
    const answer = await client.chat({ model: "tiny", messages, format, options: { num_predict: 1000, seed: 1 } });
    assert.equal(typeof JSON.parse(answer.message.content).wet, "boolean");
  },

  async generate() {
    const asked = { model: "endless", prompt: "Once upon", options };
    const whole = await client.generate(asked);
    const pieces = await gathered(await client.generate({ ...asked, stream: true }));
    assert.equal(pieces.map((piece) => piece.response).join(""), whole.response);
  },

  async embed() {
    const { embeddings } = await client.embed({ model: "embedder", input: ["a cat", "a dog"] });
    assert.deepEqual(embeddings.map((vector) => vector.length), [64, 64]);
    const { embedding } = await client.embeddings({ model: "embedder", prompt: "a cat" });
    assert.equal(embedding.length, 64);
  },

  async ps() {
    const names = (await client.ps()).models.map((model) => model.name);
    assert.ok(names.includes("endless:latest"), names.join());
  },

  async unknown() {
    await assert.rejects(client.chat({ model: "nobody", messages }), { status_code: 404, message: /nobody/ });
  },

  async outOfRange() {
    const wild = { temperature: 99 };
    await assert.rejects(client.chat({ model: "tiny", messages, options: wild }), { status_code: 422 });
  },

  async abort() {
    const stream = await client.chat({ model: "endless", messages, options: { num_predict: -1 }, stream: true });
    const read = async () => {
      for await (const piece of stream) if (piece.message.content) stream.abort();
    };
    await assert.rejects(read(), { name: "AbortError" });
    const deadline = Date.now() + 1000;
    const busy = async () => (await (await fetch(`${host}/api/ps`)).json()).models.some((model) => model.busy > 0);
    while (await busy()) assert.ok(Date.now() < deadline, "the place is still taken after 1 s");
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
