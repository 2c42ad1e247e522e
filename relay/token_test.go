package relay

import (
	"bytes"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
)

const canary = "CANARYcanary0123456789CANARY"

// exported and unexported fields, by value and by pointer, in slices and maps: where printing goes past methods.
type nest struct {
	Exported   any
	unexported any
}

// renderings is every way in which a value gets into text by accident.
func renderings(v any) map[string]string {
	out := map[string]string{}
	shapes := map[string]any{
		"value": v, "pointer": &v, "nested": nest{v, v}, "pointer to nested": &nest{v, &nest{v, v}}, "slice": []any{v}, "map": map[string]any{"k": v},
	}
	for shape, v := range shapes {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%o", "%b", "%p", "%T", "%e", "%U", "%c", "%10v", "%-5.3s", "%!"} {
			out[shape+" "+verb] = fmt.Sprintf(verb, v)
		}
		out[shape+" Sprint"] = fmt.Sprint(v) + fmt.Sprintln(v)
		out[shape+" error"] = fmt.Errorf("%w and %v", errors.New("x"), v).Error()
		if b, err := stdjson.Marshal(v); true {
			out[shape+" encoding/json"] = fmt.Sprint(string(b), err)
		}
		if b, err := json.Marshal(v); true {
			out[shape+" go-json-experiment"] = fmt.Sprint(string(b), err)
		}
		for name, handler := range map[string]func(*bytes.Buffer) slog.Handler{
			"text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
			"json": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
		} {
			var b bytes.Buffer
			slog.New(handler(&b)).With("with", v).WithGroup("g").Info("m", "k", v, slog.Group("h", "k", v))
			out[shape+" slog "+name] = b.String()
		}
		func() {
			defer func() { out[shape+" panic"] = fmt.Sprint(recover()) }()
			panic(v)
		}()
	}
	return out
}

// checkHidden looks for each secret in every rendering of v: as it is, and as hex and decimal bytes.
func checkHidden(t *testing.T, v any, secrets ...string) {
	t.Helper()
	for how, text := range renderings(v) {
		for _, s := range secrets {
			for _, form := range []string{s, fmt.Sprintf("%x", s), fmt.Sprintf("%X", s), strings.Trim(fmt.Sprint([]byte(s)), "[]"), encodeBase64([]byte(s))} {
				if strings.Contains(text, form) {
					t.Errorf("%T as %s shows the secret: %.200s", v, how, text)
				}
			}
		}
	}
}

func TestTokenCannotBePrinted(t *testing.T) {
	token := mustToken(t, canary)
	checkHidden(t, token, canary)
	checkHidden(t, &token, canary)
	checkHidden(t, struct{ token Token }{token}, canary)
	checkHidden(t, struct{ tokens []*Token }{[]*Token{&token}}, canary)
	checkHidden(t, struct{ tokens map[string]Token }{map[string]Token{"k": token}}, canary)
	if token.Reveal() != canary || fmt.Sprint(token) != "[token]" || token.String() != "[token]" {
		t.Error("not revealed, or printed as something else")
	}
}

func TestOtherSecretsCannotBePrinted(t *testing.T) {
	token := mustToken(t, canary)
	claims := fixedClaims(t)
	claims.Token = canary
	gid := fixedID("gid")
	grant := claims.grant(token, "kid", seed("secret"))
	id := fixedIdentity("app ui")
	private := id.Private()
	key := fixedInstanceKey(t, "instance")
	secret, d := string(seed("secret")), string(seed("app ui"))

	checkHidden(t, grant, canary, secret)
	checkHidden(t, *grant, canary, secret)
	checkHidden(t, struct{ g *Grant }{grant}, canary, secret)
	checkHidden(t, newKeySource(seed("secret"), gid), secret)
	checkHidden(t, id, d, private.D)
	checkHidden(t, &id, d, private.D)
	checkHidden(t, struct{ id Identity }{id}, d, private.D)
	checkHidden(t, key, string(seed("instance")))
	checkHidden(t, struct{ key *InstanceKey }{key}, string(seed("instance")))

	// Documents that are written on purpose, as JSON, have plain members: fmt and slog hide them where they see the type.
	kit := Kit{Type: KitTypeName, Role: RoleApp, Name: appName, NKey: canary, Key: private}
	for _, v := range []any{private, claims, kit, &private, &claims, &kit} {
		for how, text := range renderings(v) {
			if strings.Contains(how, "nested") || strings.HasSuffix(how, "%p") || strings.Contains(how, "json") && !strings.HasPrefix(how, "value slog") {
				continue
			}
			for _, s := range []string{private.D, canary, claims.Secret} {
				if strings.Contains(text, s) {
					t.Errorf("%T as %s shows the secret: %.300s", v, how, text)
				}
			}
		}
	}
	c := ConnectConfig{URL: "nats://user:" + canary + "@host:4222,tls://" + canary + "@other", NKeySeed: canary}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x"} {
		if s := fmt.Sprintf(verb, c); strings.Contains(s, canary) || !strings.Contains(s, "nats://host:4222,tls://other") {
			t.Errorf("%s: %s", verb, s)
		}
	}
}

func TestNewToken(t *testing.T) {
	exp := fixedNow.Add(time.Hour)
	part := func(s string) string { return encodeBase64([]byte(s)) }
	for name, c := range map[string]struct {
		value  string
		want   Code
		opaque bool
		expiry time.Time
	}{
		"jwt":                  {value: jwtToken(exp), expiry: exp},
		"exp 0":                {value: "h." + part(`{"exp":0}`) + ".s", expiry: time.Unix(0, 0)},
		"exp a fraction":       {value: "h." + part(`{"exp":1750000000.75,"other":"x"}`) + ".s", expiry: fixedNow},
		"opaque":               {value: "dapi0123", opaque: true},
		"longest":              {value: strings.Repeat("a", MaxToken), opaque: true},
		"two parts":            {value: "a." + part(`{"exp":1}`), opaque: true},
		"four parts":           {value: "a." + part(`{"exp":1}`) + ".b.c", opaque: true},
		"no signature":         {value: "h." + part(`{"exp":1}`) + ".", opaque: true},
		"no header":            {value: "." + part(`{"exp":1}`) + ".s", opaque: true},
		"no exp":               {value: "h." + part(`{"iat":1}`) + ".s", opaque: true},
		"exp null":             {value: "h." + part(`{"exp":null}`) + ".s", opaque: true},
		"exp a string":         {value: "h." + part(`{"exp":"1750000000"}`) + ".s", opaque: true},
		"exp in upper case":    {value: "h." + part(`{"EXP":1750000000}`) + ".s", opaque: true},
		"exp twice":            {value: "h." + part(`{"exp":1750000000,"exp":9999999999}`) + ".s", opaque: true},
		"exp negative":         {value: "h." + part(`{"exp":-1}`) + ".s", opaque: true},
		"exp beyond all years": {value: "h." + part(`{"exp":1e300}`) + ".s", opaque: true},
		"payload an array":     {value: "h." + part(`[1]`) + ".s", opaque: true},
		"payload no base64":    {value: "h.!!!.s", opaque: true},
		"payload padded":       {value: "h." + part(`{"exp":1}`) + "=.s", opaque: true},
		"empty":                {want: CodeTokenMissing},
		"too long":             {value: strings.Repeat("a", MaxToken+1), want: CodeTokenMalformed},
		"space":                {value: "Bearer " + canary, want: CodeTokenMalformed},
		"line break":           {value: canary + "\n", want: CodeTokenMalformed},
		"NUL":                  {value: canary + "\x00", want: CodeTokenMalformed},
		"not ASCII":            {value: canary + "é", want: CodeTokenMalformed},
		"DEL":                  {value: canary + "\x7f", want: CodeTokenMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			token, err := NewToken(c.value)
			if c.want != "" {
				if !errors.Is(err, c.want) || !token.IsZero() || strings.Contains(err.Error(), canary) {
					t.Errorf("%v, want %s", err, c.want)
				}
				return
			}
			if err != nil || token.Reveal() != c.value || token.Opaque() != c.opaque || !token.Expiry().Equal(c.expiry) || token.IsZero() {
				t.Errorf("%v: opaque %v, expiry %v", err, token.Opaque(), token.Expiry())
			}
			if got := token.ExpiredAt(c.expiry); got == c.opaque || !c.opaque && token.ExpiredAt(c.expiry.Add(-time.Second)) {
				t.Errorf("expired at its expiry: %v", got)
			}
		})
	}
}

func TestZeroToken(t *testing.T) {
	var z Token
	if !z.IsZero() || z.Reveal() != "" || z.Opaque() || !z.Expiry().IsZero() || z.ExpiredAt(fixedNow) || z.String() != "[token]" {
		t.Error("the zero token is something")
	}
	checkHidden(t, z, canary)
}
