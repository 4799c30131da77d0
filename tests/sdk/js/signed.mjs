// Signed URLs and host names: what only domain mode has.

import { test } from 'node:test'
import assert from 'node:assert/strict'
import { sharedSandbox } from './support.mjs'

const shared = sharedSandbox()

test('a signed URL downloads one file without any key', async () => {
  await shared.sandbox.files.write('signed file.txt', 'signed content')
  const url = await shared.sandbox.downloadUrl('signed file.txt', { useSignatureExpiration: 60 })
  const answer = await fetch(url)
  assert.equal(answer.status, 200)
  assert.equal(await answer.text(), 'signed content')
})

test('a signed URL uploads a file without any key', async () => {
  const url = await shared.sandbox.uploadUrl('uploaded.txt', { useSignatureExpiration: 60 })
  const form = new FormData()
  form.append('file', new Blob(['uploaded content']), 'uploaded.txt')
  const answer = await fetch(url, { method: 'POST', body: form })
  assert.equal(answer.status, 200, await answer.clone().text())
  assert.equal(await shared.sandbox.files.read('uploaded.txt'), 'uploaded content')
})

test('a signature for one path, one operation or a time that is over opens nothing else', async () => {
  await shared.sandbox.files.write('other.txt', 'other')
  const url = new URL(await shared.sandbox.downloadUrl('signed file.txt', { useSignatureExpiration: 60 }))
  const elsewhere = new URL(url)
  elsewhere.searchParams.set('path', 'other.txt')
  const upload = await fetch(url, { method: 'POST', body: new FormData() })
  const longer = new URL(url)
  longer.searchParams.set('signature_expiration', '99999999999')
  const unsigned = new URL(url)
  unsigned.searchParams.delete('signature')
  for (const answer of [upload, await fetch(elsewhere), await fetch(longer), await fetch(unsigned)]) {
    assert.equal(answer.status, 401, await answer.text())
  }
  const late = await shared.sandbox.downloadUrl('other.txt', { useSignatureExpiration: -10 })
  const answer = await fetch(late)
  assert.deepEqual([answer.status, await answer.json()], [401, { code: 401, message: 'signature is already expired' }])
})

test('a port without a server and a sandbox that is gone say so by their host names', async () => {
  const closed = await fetch(`https://${shared.sandbox.getHost(8123)}/`)
  assert.equal(closed.status, 502)
  assert.match((await closed.json()).message, /port is not open/)
  const elsewhere = shared.sandbox.getHost(49983).replace(shared.sandbox.sandboxId, 'i00000000000000000000')
  const gone = await fetch(`https://${elsewhere}/health`)
  assert.equal(gone.status, 502)
  assert.match((await gone.json()).message, /was not found/)
})
