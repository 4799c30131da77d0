// Git inside, as E2B's documentation shows it, against a server that only a tunnel leads to.

import { after, before, test } from 'node:test'
import assert from 'node:assert/strict'
import { CommandExitError, GitAuthError, GitUpstreamError, Sandbox } from 'e2b'

const HOST = 'http://git.tunnel.internal'
const LOGIN = { username: 'octo', password: encodeURIComponent('p@ss:w/rd') }
let sandbox

before(async () => {
  const made = await fetch(`${process.env.E2B_API_URL}/v1/sandboxes`, {
    method: 'POST',
    headers: { 'X-API-Key': process.env.E2B_API_KEY, 'Content-Type': 'application/json' },
    body: JSON.stringify({ timeout_ms: 300_000, egress: { tunnels: ['git'] } }),
  })
  assert.equal(made.status, 201, await made.clone().text())
  sandbox = await Sandbox.connect((await made.json()).id)
  await sandbox.git.configureUser('Octo Js', 'octo.js@example.com')
})

after(async () => {
  await sandbox?.kill()
})

test('what is public is cloned without a password, and is on its branch', async () => {
  await sandbox.git.clone(`${HOST}/public/js.git`, { path: '/home/user/public', depth: 1 })
  assert.equal(await sandbox.files.read('/home/user/public/README.md'), '# public/js\n')
  const { branches, currentBranch } = await sandbox.git.branches('/home/user/public')
  assert.deepEqual([branches, currentBranch], [['main'], 'main'])
  const status = await sandbox.git.status('/home/user/public')
  assert.deepEqual([status.isClean, status.currentBranch, status.upstream], [true, 'main', 'origin/main'])
})

test('what is private wants the right password, and says so', async () => {
  const url = `${HOST}/private/js.git`
  const path = '/home/user/refused'
  await assert.rejects(() => sandbox.git.clone(url, { path }), GitAuthError)
  await assert.rejects(
    () => sandbox.git.clone(url, { path, username: 'octo', password: 'wrong' }),
    GitAuthError
  )
  await assert.rejects(
    () => sandbox.git.clone(`${HOST}/private/none.git`, { path, ...LOGIN }),
    (error) => error instanceof CommandExitError && /not found/.test(error.stderr)
  )
  assert.equal(await sandbox.files.exists(path), false)
})

test('a branch is made, committed and pushed, and another clone pulls it', async () => {
  const path = '/home/user/work'
  await sandbox.git.clone(`${HOST}/private/js.git`, { path, ...LOGIN })
  assert.equal(await sandbox.git.remoteGet(path, 'origin'), `${HOST}/private/js.git`)
  await sandbox.git.createBranch(path, 'feature')
  await sandbox.files.write(`${path}/hello.txt`, 'from the sandbox\n')
  const dirty = await sandbox.git.status(path)
  assert.equal(dirty.isClean, false)
  assert.deepEqual(dirty.fileStatus.map((file) => [file.name, file.status]), [['hello.txt', 'untracked']])
  await sandbox.git.add(path)
  assert.equal((await sandbox.git.status(path)).hasStaged, true)
  await sandbox.git.commit(path, 'say hello from JS')
  await assert.rejects(() => sandbox.git.push(path, { setUpstream: false }), GitUpstreamError)
  await assert.rejects(
    () => sandbox.git.push(path, { remote: 'origin', branch: 'feature' }),
    GitAuthError
  )
  await sandbox.git.push(path, { remote: 'origin', branch: 'feature', ...LOGIN })
  assert.equal((await sandbox.git.status(path)).upstream, 'origin/feature')
  const config = await sandbox.files.read(`${path}/.git/config`)
  assert.ok(!config.includes('p@ss') && !config.includes(LOGIN.password), 'no password stays behind')

  const other = '/home/user/other'
  await sandbox.git.clone(`${HOST}/private/js.git`, { path: other, branch: 'main', ...LOGIN })
  await sandbox.git.pull(other, { remote: 'origin', branch: 'feature', ...LOGIN })
  assert.equal(await sandbox.files.read(`${other}/hello.txt`), 'from the sandbox\n')
})

test('a stored password serves every command after it', async () => {
  const host = new URL(HOST).host
  await sandbox.git.dangerouslyAuthenticate({ username: 'octo', password: 'p@ss:w/rd', host, protocol: 'http' })
  await sandbox.git.clone(`${HOST}/private/js.git`, { path: '/home/user/stored' })
  assert.equal(await sandbox.files.read('/home/user/stored/README.md'), '# private/js\n')
})
