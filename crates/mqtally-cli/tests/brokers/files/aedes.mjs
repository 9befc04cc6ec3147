// node aedes.mjs PORT [STATE]: aedes on loopback; with STATE, a directory, it keeps its sessions there.
import { Aedes } from 'aedes'
import { createServer } from 'node:net'
import { createRequire } from 'node:module'

const [port, state] = process.argv.slice(2)
const options = {}
if (state) {
  const require = createRequire(import.meta.url)
  const { ClassicLevel } = require('classic-level')
  options.persistence = require('aedes-persistence-level')(new ClassicLevel(state, { valueEncoding: 'binary' }))
}
const broker = await Aedes.createBroker(options)
const server = createServer(broker.handle)
server.listen(Number(port), '127.0.0.1')
process.on('SIGTERM', () => { server.close(); broker.close(() => process.exit(0)) })
