// BullMQ's own queue and worker steps, told what to do by lines of JSON; answers each with a line of JSON.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
const require = createRequire(process.argv[2] + "/");
const { Queue, Worker } = require("bullmq");

const connection = { host: "127.0.0.1", port: Number(process.argv[3]), maxRetriesPerRequest: null };
const queue = new Queue("bench", { connection });
const worker = new Worker("bench", null, { connection, autorun: false });
const data = { year: 2026, region: "north", kind: "annual", format: "pdf" };
const token = "bench";
const taken = [];

const deeds = {
  ready: async () => Promise.all([queue.waitUntilReady(), worker.waitUntilReady()]),
  enqueue: async (count) => {
    for (let n = 0; n < count; n++) await queue.add("app.build_report", data);
  },
  enqueueMany: async (count) =>
    queue.addBulk(Array.from({ length: count }, () => ({ name: "app.build_report", data }))),
  claim: async (count) => {
    for (let n = 0; n < count; n++) {
      const job = await worker.getNextJob(token, { block: false });
      if (!job) throw new Error("BullMQ's queue ran empty");
      taken.push(job);
    }
  },
  finish: async (count) => {
    for (let n = 0; n < count; n++)
      await taken.pop().moveToCompleted({ file: "reports/2026.pdf", pages: 12 }, token, false);
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { deed, count } = JSON.parse(line);
  const started = process.hrtime.bigint();
  try {
    await deeds[deed](count);
    console.log(JSON.stringify({ seconds: Number(process.hrtime.bigint() - started) / 1e9 }));
  } catch (error) {
    console.log(JSON.stringify({ error: String(error) }));
  }
}
process.exit(0);
