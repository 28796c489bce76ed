// Requests to the server that sent this page; nothing else is ever asked.
let csrf = "";

export function setKey(key) {
  csrf = key;
}

function address(path, query = {}) {
  const text = new URLSearchParams(query).toString();
  return text ? `api/${path}?${text}` : `api/${path}`;
}

async function answer(response) {
  if (response.ok) return response.json();
  const text = await response.text();
  let message = text;
  try {
    message = JSON.parse(text).error || text;
  } catch {
    // plain text
  }
  throw new Error(message.trim() || `error ${response.status}`);
}

export async function get(path, query) {
  return answer(await fetch(address(path, query)));
}

export async function post(path, data) {
  const body = JSON.stringify(data);
  return answer(
    await fetch(address(path), {
      method: "POST",
      headers: { "content-type": "application/json", "x-tomopipe-csrf": csrf },
      body,
      keepalive: body.length < 30000, // a page that is closed now still says what was decided; browsers take no more
    }),
  );
}

export async function fetched(path, query) {
  const response = await fetch(address(path, query));
  if (!response.ok) await answer(response);
  return response;
}

// A picture in colours, decoded and ready to draw.
export async function picture(path, query) {
  return createImageBitmap(await (await fetched(path, query)).blob());
}
