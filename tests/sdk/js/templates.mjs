// Templates, as E2B's documentation builds them: in real sandboxes, from template `base`.

import { after, before, test } from 'node:test'
import assert from 'node:assert/strict'
import { mkdtemp, mkdir, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { BuildError, Sandbox, Template, waitForFile, waitForPort } from 'e2b'
import { until } from './support.mjs'

const { E2B_API_URL, E2B_API_KEY, E2B_DOMAIN } = process.env
const api = E2B_API_URL ?? `https://api.${E2B_DOMAIN}`
let context

before(async () => {
  context = await mkdtemp(join(tmpdir(), 'courier-context-'))
  await mkdir(join(context, 'app', 'lib'), { recursive: true })
  await writeFile(join(context, 'app', 'main.txt'), 'main\n')
  await writeFile(join(context, 'app', 'lib', 'part.txt'), 'part\n')
  await writeFile(join(context, 'one.txt'), 'one\n')
  await writeFile(join(context, 'two.txt'), 'two\n')
  await symlink('main.txt', join(context, 'app', 'link.txt'))
})

after(async () => {
  await rm(context, { recursive: true })
})

/** A call of the API that the SDK has no function for. */
async function call(method, path) {
  return await fetch(`${api}${path}`, { method, headers: { 'X-API-Key': E2B_API_KEY } })
}

/** Runs a command in a new sandbox of a template. */
async function inside(template, command, options = {}) {
  const sandbox = await Sandbox.create(template, { timeoutMs: 60_000 })
  try {
    return (await sandbox.commands.run(command, options)).stdout
  } finally {
    await sandbox.kill()
  }
}

test('a template is built of every kind of step, and its sandboxes are what they made', async () => {
  const template = Template({ fileContextPath: context })
    .fromTemplate('base')
    .setEnvs({ GREETING: 'hello', WHOLE: '$GREETING world' })
    .setWorkdir('/srv/app')
    .copy('app', 'code/')
    .copy('*.txt', '/srv/texts/', { user: 'root', mode: 0o640 })
    .runCmd(['echo "$WHOLE" > greeting', 'whoami > who'])
    .runCmd('echo of-root > /etc/made', { user: 'root' })
    .makeDir('/srv/app/logs')
    .setUser('worker')
    .runCmd('id -un > /tmp/worker')
  const entries = []
  const built = await Template.build(template, 'js-steps', {
    cpuCount: 1,
    memoryMB: 512,
    onBuildLogs: (entry) => entries.push(entry),
  })
  assert.match(built.buildId, /^[0-9a-f-]{36}$/)
  assert.ok(entries.some((entry) => entry.message.includes("Uploaded 'app'")), String(entries))
  const script =
    'pwd; cat greeting who code/main.txt code/lib/part.txt code/link.txt /srv/texts/one.txt 2>&1; ' +
    'stat -c "%U %a" /srv/texts/one.txt; cat /etc/made /tmp/worker; ls -d logs; id -un'
  const out = await inside('js-steps', script)
  const denied = 'cat: /srv/texts/one.txt: Permission denied\n'
  const made = `/srv/app\nhello world\nuser\nmain\npart\nmain\n${denied}root 640\nof-root\nworker\nlogs\nworker\n`
  assert.equal(out, made)
  assert.equal(await Template.exists('js-steps'), true)
  assert.equal(await Template.exists('js-steps:default'), true)
  assert.equal(await Template.exists('js-steps:v9'), false)
  assert.equal(await Template.exists('js-nothing'), false)
})

test('a second build uploads nothing and uses what was built', async () => {
  const template = () =>
    Template({ fileContextPath: context })
      .fromTemplate('base')
      .copy('one.txt', '/tmp/one.txt')
      .runCmd('head -c 16 /dev/urandom | od -An -tx1 > /tmp/random')
  const messages = []
  const onBuildLogs = (entry) => messages.push(entry.message)
  await Template.build(template(), 'js-cached', { onBuildLogs })
  const first = await inside('js-cached', 'cat /tmp/random')
  messages.length = 0
  await Template.build(template(), 'js-cached', { onBuildLogs })
  assert.ok(messages.some((text) => text.includes('already cached')), messages.join('\n'))
  assert.equal(await inside('js-cached', 'cat /tmp/random'), first)
  await Template.build(template(), 'js-cached', { skipCache: true })
  assert.notEqual(await inside('js-cached', 'cat /tmp/random'), first)
})

test('a failing command ends the build with its words', async () => {
  const template = Template().fromTemplate('base').runCmd('echo fine').runCmd('echo odd >&2; exit 7')
  const entries = []
  const failing = Template.build(template, 'js-failing', { onBuildLogs: (entry) => entries.push(entry) })
  await assert.rejects(failing, (error) => {
    assert.ok(error instanceof BuildError, error)
    assert.equal(error.message, "failed to run command 'echo odd >&2; exit 7': exit status 7")
    // The trace leads to the line of the step.
    assert.match(error.stack, /templates\.mjs/)
    return true
  })
  assert.ok(entries.some((entry) => entry.message.includes('odd')), entries.join('\n'))
})

test('an unknown user of a step is named', async () => {
  const template = Template().fromTemplate('base').runCmd('whoami', { user: 'root123' })
  await assert.rejects(Template.build(template, 'js-no-user'), {
    message: "failed to run command 'whoami': command failed: unauthenticated: invalid username: 'root123'",
  })
})

test('a Dockerfile is built, from the base image that E2B gives', async () => {
  const dockerfile =
    'FROM e2bdev/base\nENV COLOUR=green\nWORKDIR /opt/site\nCOPY one.txt ./\nRUN echo "$COLOUR" >> one.txt\n'
  const template = Template({ fileContextPath: context }).fromDockerfile(dockerfile)
  await Template.build(template, 'js-dockerfile')
  assert.equal(await inside('js-dockerfile', 'cat /opt/site/one.txt; echo $COLOUR'), 'one\ngreen\ngreen\n')
})

test('a start command runs in every sandbox before it is there', async () => {
  const template = Template()
    .fromTemplate('base')
    .setWorkdir('/home/user')
    .runCmd('echo served > index.html')
    .setStartCmd('python3 -m http.server 8000', waitForPort(8000))
  await Template.build(template, 'js-started')
  assert.equal(await inside('js-started', 'curl -s http://127.0.0.1:8000/index.html'), 'served\n')
})

test('a build in the background is building, and is cancelled while its start is never ready', async () => {
  const template = Template().fromTemplate('base').setStartCmd('exit 3', waitForFile('/tmp/never'))
  const built = await Template.buildInBackground(template, 'js-never')
  const looked = async () => {
    const status = await Template.getBuildStatus(built, { logsOffset: 0 })
    return status.status === 'building' ? undefined : status
  }
  assert.equal((await Template.getBuildStatus(built, { logsOffset: 0 })).status, 'building')
  const cancelled = await call('POST', `/v1/builds/${built.buildId}/cancel`)
  assert.equal(cancelled.status, 204, await cancelled.text())
  const status = await until('the end of the build', looked)
  assert.equal(status.status, 'error')
  assert.equal(status.reason.message, 'the build was cancelled')
})

test('tags name builds, move and go; sandboxes stay what they are', async () => {
  const saying = (word) => Template().fromTemplate('base').runCmd(`echo ${word} > /tmp/word`)
  const first = await Template.build(saying('first'), 'js-tags:v1', { tags: ['stable'] })
  assert.deepEqual(first.tags, ['v1', 'stable'])
  const running = await Sandbox.create('js-tags:stable', { timeoutMs: 120_000 })
  try {
    const second = await Template.build(saying('second'), 'js-tags:v2')
    const assigned = await Template.assignTags('js-tags:v2', ['stable', 'default'])
    assert.deepEqual(assigned, { buildId: second.buildId, tags: ['stable', 'default'] })
    assert.equal(await inside('js-tags', 'cat /tmp/word'), 'second\n')
    assert.equal(await inside('js-tags:v1', 'cat /tmp/word'), 'first\n')
    assert.equal((await running.commands.run('cat /tmp/word')).stdout, 'first\n')
    const tags = await Template.getTags('js-tags')
    assert.deepEqual(
      Object.fromEntries(tags.map((tag) => [tag.tag, tag.buildId])),
      { default: second.buildId, stable: second.buildId, v1: first.buildId, v2: second.buildId },
    )
    assert.ok(tags[0].createdAt instanceof Date)
    await Template.removeTags('js-tags', ['v1', 'v2'])
    assert.equal(await Template.exists('js-tags:v1'), false)
    await assert.rejects(Template.removeTags('js-tags', 'default'), /default/)
    await assert.rejects(Template.assignTags('js-tags:v1', 'x'), /v1/)
    await assert.rejects(Template.assignTags('js-tags', 'a b'), /Invalid tag/)
    const refused = await call('DELETE', `/templates/${first.templateId}`)
    assert.equal(refused.status, 400)
    assert.ok((await refused.json()).message.includes(running.sandboxId))
  } finally {
    await running.kill()
  }
  assert.equal((await call('DELETE', '/templates/js-tags')).status, 204)
  assert.equal(await Template.exists('js-tags'), false)
  await assert.rejects(Sandbox.create('js-tags', { timeoutMs: 60_000 }), /not found/)
})
