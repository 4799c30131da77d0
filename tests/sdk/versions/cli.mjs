// What every version of `@e2b/cli` from npm is held to, as far as it has the command.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { setTimeout as pause } from 'node:timers/promises'
import { absent, check, end } from './checks.mjs'

const API = `https://api.${process.env.E2B_DOMAIN}`
const HEADERS = { 'X-API-Key': process.env.E2B_API_KEY, 'Content-Type': 'application/json' }
const PROGRAM = new URL('node_modules/@e2b/cli/dist/index.js', import.meta.url).pathname

function e2b(...words) {
  const ended = spawnSync(process.execPath, [PROGRAM, ...words], { encoding: 'utf8', timeout: 60_000 })
  assert.equal(ended.status, 0, `${words.join(' ')}: exit ${ended.status}: ${ended.stdout} ${ended.stderr}`)
  return ended.stdout
}

const body = JSON.stringify({ templateID: 'base', timeout: 120 })
const made = await fetch(`${API}/v2/sandboxes`, { method: 'POST', headers: HEADERS, body })
const { sandboxID: id } = await made.json()
const commands = e2b('sandbox', '--help')
const has = (name) => new RegExp(`^  ${name}\\b`, 'm').test(commands)

/** A check of a command, where this version has it. */
async function of(name, act) {
  await (has(name) ? check(name, act) : absent(name))
}

await of('list', () => assert.ok(e2b('sandbox', 'list').includes(id), 'it is not in the list'))
await of('info', () => assert.ok(e2b('sandbox', 'info', id).includes(id)))
await of('exec', () => assert.match(e2b('sandbox', 'exec', id, 'echo', 'inside'), /inside/))
await of('logs', () => assert.match(e2b('sandbox', 'logs', id), /sandbox running/))
await of('metrics', async () => {
  // The first sample comes within a few seconds.
  for (const deadline = Date.now() + 20_000; Date.now() < deadline; await pause(500)) {
    if (/CPU.*Memory/s.test(e2b('sandbox', 'metrics', id))) return
  }
  assert.fail(`no sample: ${e2b('sandbox', 'metrics', id)}`)
})
await of('kill', async () => {
  e2b('sandbox', 'kill', id)
  const gone = await fetch(`${API}/sandboxes/${id}`, { headers: HEADERS })
  assert.equal(gone.status, 404)
})

end()
