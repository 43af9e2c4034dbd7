// Says hello by HTTP, and ends cleanly when it is asked to.
const http = require('node:http');
const server = http.createServer((req, res) => res.end(`node ${process.versions.node}, in a VM\n`));
process.on('SIGTERM', () => {
  server.closeAllConnections?.();
  server.close(() => process.exit(0));
});
server.listen(3000, '0.0.0.0', () => console.log('listening'));
