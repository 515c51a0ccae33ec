const json = (method, path, token, body) => fetch(path, {
  method,
  headers: { 'Content-Type': 'application/json', ...(token ? { Authorization: `Bearer ${token}` } : {}) },
  body: body && JSON.stringify(body),
});
const tell = (what) => {
  document.getElementById('root').textContent = JSON.stringify(what);
  const shownBy = parent === window ? opener : parent;
  if (shownBy) shownBy.postMessage(what, '*');
};
let token;

async function load() {
  const config = await (await json('GET', '/api/config')).json();
  const answer = await (await json('POST', '/api/auth/refresh')).text();
  const signedIn = answer.startsWith('{') ? JSON.parse(answer) : {};
  token = signedIn.token;
  tell({ path: location.pathname + location.search, email: signedIn.user?.email ?? null, loginForm: config.emailLoginEnabled });
}

async function say(body) {
  const started = await (await json('POST', '/api/agents/chat/LabAI', token, body)).json();
  const stream = await json('GET', `/api/agents/chat/stream/${started.streamId}`, token);
  tell({ answered: (await stream.text()).includes('"final":true') });
}

addEventListener('message', async ({ data }) => {
  if (data.say) await say(data.say);
  if (data.leave) {
    await json('POST', '/api/auth/logout', token, {});
    await load();
  }
});
load();

