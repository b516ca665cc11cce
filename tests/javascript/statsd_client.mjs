// SPDX-License-Identifier: MIT
// Sends with npm's hot-shots what tests/integration/test_wire_ports.py looks for: node statsd_client.mjs PORT udp|tcp
import process from "node:process";

import { StatsD } from "hot-shots";

const [port, protocol] = process.argv.slice(2);
const client = new StatsD({
  host: "127.0.0.1",
  port: Number(port),
  protocol,
  prefix: `node.${protocol}.`,
  errorHandler: (error) => {
    throw error;
  },
});

Math.random = () => 0.25; // of samples taken at a rate above it all are sent, below it none
client.increment("logins", 3);
client.increment("half", 1, 0.5);
client.increment("tenth", 1, 0.1);
client.gauge("queue", 70);
client.timing("page", 320);
client.unique("users", "ann");
client.unique("users", "bob");
client.increment("tagged", 5, { site: "de" });
client.close();
