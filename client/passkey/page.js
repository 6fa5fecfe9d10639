"use strict";
// Asks the browser for a passkey, hands its answer to the command that served this page, and says in words how it went.
// Text is only ever set as text.

const asked = JSON.parse(document.getElementById("asked").textContent);
const button = document.getElementById("go");
const told = document.getElementById("told");
let over = false;

const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
const text = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

function tell(words, kind) {
  told.className = kind || "";
  told.textContent = words;
}

function end(words, kind) {
  over = true;
  button.hidden = true;
  tell(words, kind);
  told.tabIndex = -1;
  told.focus();
}

function options() {
  const known = (list) => list.map((each) => ({ ...each, id: bytes(each.id) }));
  const made = { ...asked.publicKey, challenge: bytes(asked.publicKey.challenge) };
  if (made.allowCredentials) made.allowCredentials = known(made.allowCredentials);
  if (made.excludeCredentials) made.excludeCredentials = known(made.excludeCredentials);
  if (made.user) made.user = { ...made.user, id: bytes(made.user.id) };
  return made;
}

function answer(credential) {
  const given = credential.response;
  const both = { credential: text(credential.rawId), client_data: text(given.clientDataJSON) };
  if (asked.kind === "login") {
    const handle = given.userHandle && given.userHandle.byteLength ? text(given.userHandle) : null;
    return {
      ...both,
      authenticator_data: text(given.authenticatorData),
      signature: text(given.signature),
      user_handle: handle,
    };
  }
  const transports = given.getTransports ? given.getTransports() : [];
  return {
    ...both,
    attestation: text(given.attestationObject),
    transports: transports.filter((each) => /^[a-z-]{1,16}$/.test(each)).slice(0, 8),
  };
}

function words(error) {
  switch (error.name) {
    case "NotAllowedError":
      return asked.kind === "login"
        ? "Nothing was confirmed. It was cancelled, took too long, or none of your passkeys is here."
        : "Nothing was made. It was cancelled, or took too long.";
    case "InvalidStateError":
      return "This authenticator already holds a passkey of yours. Use another one.";
    case "NotSupportedError":
    case "ConstraintError":
      return "This authenticator cannot check that it is you. Give it a PIN or a fingerprint, or use another one.";
    case "SecurityError":
      return "The browser does not allow passkeys on this page. Open the address exactly as the terminal shows it.";
    default:
      return `The browser could not do it (${error.name}).`;
  }
}

async function post(response) {
  const sent = await fetch(location.pathname, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ secret: asked.secret, response }),
    credentials: "omit",
    cache: "no-store",
  });
  return sent.json();
}

async function go() {
  if (over) return;
  button.disabled = true;
  tell("Follow your browser: it asks for your passkey now.");
  let credential;
  try {
    const ask = { publicKey: options() };
    credential = asked.kind === "login" ? await navigator.credentials.get(ask) : await navigator.credentials.create(ask);
  } catch (error) {
    if (over) return;
    tell(words(error), "bad");
    button.disabled = false;
    button.textContent = "Try again";
    button.focus();
    return;
  }
  tell("Asking the controller…");
  try {
    const verdict = await post(answer(credential));
    end(verdict.words, verdict.good ? "good" : "bad");
  } catch {
    end("The command in the terminal is gone. Run it again.", "bad");
  }
}

if (window.PublicKeyCredential && navigator.credentials) {
  button.disabled = false;
  button.addEventListener("click", go);
  button.focus();
  setTimeout(() => over || end("The time for this is over. Run the command again.", "bad"), asked.seconds * 1000);
} else {
  end("This browser cannot use passkeys. Open the address from the terminal in another one.", "bad");
}
