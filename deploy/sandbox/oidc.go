package sandbox

import (
	"crypto/subtle"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Grant types of the token endpoint.
const (
	grantClientCredentials = "client_credentials"
	grantTokenExchange     = "urn:ietf:params:oauth:grant-type:token-exchange"
)

// token answers POST /oidc/v1/token: client credentials for service principals
// (RFC 6749 section 4.4), and a refusal of token exchange.
func (w *Workspace) token(rw http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(rw, r.Body, 64<<10)
	if err := r.ParseForm(); err != nil {
		writeOAuthError(rw, http.StatusBadRequest, "invalid_request", "The form could not be read")
		return
	}
	clientID, secret := clientCredentials(r)
	switch grant := r.PostForm.Get("grant_type"); grant {
	case grantClientCredentials:
		w.clientCredentialsGrant(rw, r, clientID, secret)
	case grantTokenExchange:
		// What a middleware app gets that tries to exchange a person's token for
		// one of its own: its client is not a member of the workspace.
		writeOAuthError(rw, http.StatusForbidden, "invalid_client",
			fmt.Sprintf("Client authentication failed: user '%s' is not a member of workspace", clientID))
	default:
		writeOAuthError(rw, http.StatusBadRequest, "unsupported_grant_type", "Grant type is not supported")
	}
}

func (w *Workspace) clientCredentialsGrant(rw http.ResponseWriter, r *http.Request, clientID, secret string) {
	p, ok := w.directory.lookup(clientID)
	if !ok || !p.servicePrincipal || p.secret == "" || p.inactive ||
		subtle.ConstantTimeCompare([]byte(p.secret), []byte(secret)) != 1 {
		rw.Header().Set("WWW-Authenticate", `Basic realm="sandbox"`)
		writeOAuthError(rw, http.StatusUnauthorized, "invalid_client", "Client authentication failed")
		return
	}
	w.noteCaller(callOf(r), clientID)
	scopes := strings.Fields(r.PostForm.Get("scope"))
	if len(scopes) == 0 {
		scopes = []string{ScopeAllAPIs}
	}
	token, expiry, err := w.issue(clientID, TokenOptions{Scopes: scopes})
	if err != nil {
		writeOAuthError(rw, http.StatusInternalServerError, "server_error", "The token could not be signed")
		return
	}
	rw.Header().Set("Cache-Control", "no-store")
	writeJSON(rw, http.StatusOK, map[string]any{
		"access_token": token,
		"token_type":   "Bearer",
		"scope":        strings.Join(scopes, " "),
		"expires_in":   expiry.Unix() - w.cfg.Now().Unix(),
	})
}

// clientCredentials are those of the Authorization header, form-encoded there
// (RFC 6749 section 2.3.1), or of the form.
func clientCredentials(r *http.Request) (id, secret string) {
	id, secret, ok := r.BasicAuth()
	if !ok {
		return r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	}
	if decoded, err := url.QueryUnescape(id); err == nil {
		id = decoded
	}
	if decoded, err := url.QueryUnescape(secret); err == nil {
		secret = decoded
	}
	return id, secret
}

func writeOAuthError(rw http.ResponseWriter, status int, code, description string) {
	rw.Header().Set("Cache-Control", "no-store")
	writeJSON(rw, status, map[string]string{
		"error": code, "error_id": rw.Header().Get(requestIDHeader), "error_description": description,
	})
}

// jwks answers GET /oidc/jwks.json.
func (w *Workspace) jwks(rw http.ResponseWriter, _ *http.Request) {
	writeJSON(rw, http.StatusOK, w.mint.jwks())
}

// oauthMetadata answers the discovery document of RFC 8414.
func (w *Workspace) oauthMetadata(rw http.ResponseWriter, _ *http.Request) {
	issuer := w.URL() + "/oidc"
	writeJSON(rw, http.StatusOK, map[string]any{
		"issuer":                                issuer,
		"authorization_endpoint":                issuer + "/v1/authorize",
		"token_endpoint":                        issuer + "/v1/token",
		"jwks_uri":                              issuer + "/jwks.json",
		"response_types_supported":              []string{"code"},
		"grant_types_supported":                 []string{grantClientCredentials},
		"token_endpoint_auth_methods_supported": []string{"client_secret_basic", "client_secret_post"},
		"id_token_signing_alg_values_supported": []string{"ES256"},
	})
}

// hostMetadata answers the SDK's own discovery document.
func (w *Workspace) hostMetadata(rw http.ResponseWriter, _ *http.Request) {
	writeJSON(rw, http.StatusOK, map[string]any{
		"oidc_endpoint": w.URL() + "/oidc",
		"workspace_id":  w.cfg.ID,
		"cloud":         "Azure",
	})
}
