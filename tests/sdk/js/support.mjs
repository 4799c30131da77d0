// What the JavaScript tests share: waiting with a deadline, and one sandbox per file.

import { after, before } from 'node:test'
import assert from 'node:assert/strict'
import { Sandbox } from 'e2b'

/** Looks until `look` gives something true; throws after `withinMs` with what was last seen. */
export async function until(what, look, withinMs = 15_000) {
  const deadline = Date.now() + withinMs
  for (;;) {
    const seen = await look()
    if (seen) return seen
    if (Date.now() > deadline) assert.fail(`${what}: not within ${withinMs} ms; last: ${seen}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

/** One sandbox for all the tests of a file. */
export function sharedSandbox() {
  const shared = { sandbox: undefined }
  before(async () => {
    shared.sandbox = await Sandbox.create({ timeoutMs: 300_000 })
  })
  after(async () => {
    await shared.sandbox?.kill()
  })
  return shared
}
