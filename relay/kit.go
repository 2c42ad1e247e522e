package relay

import (
	"errors"
	"fmt"
	"log/slog"
)

// KitTypeName is the type constant of Kit.
const KitTypeName = "obo.v1.kit"

// Kit is one side's whole configuration in one secret (PROTOCOL.md §13). It holds private keys: do not print it.
type Kit struct {
	Type          string    `json:"type"`
	Role          Role      `json:"role"`
	Name          string    `json:"name"`
	NATS          string    `json:"nats"`
	NKey          string    `json:"nkey"` // seed of the NATS user
	Key           JWK       `json:"key"`  // private identity key
	Trust         TrustFile `json:"trust"`
	SubjectPrefix string    `json:"subject_prefix,omitzero"`
}

// Format hides the kit from every fmt verb.
func (k Kit) Format(s fmt.State, _ rune) { _, _ = fmt.Fprintf(s, "[kit of %s %s]", k.Role, k.Name) }

// LogValue hides the kit from slog.
func (k Kit) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(k)) }

// ParseKit reads a kit for one role and reports all its faults at once.
func ParseKit(data []byte, role Role) (*Kit, error) {
	k := new(Kit)
	if err := unmarshalStrict(data, k); err != nil {
		return nil, fmt.Errorf("kit: %w (want the document that obo init writes)", err)
	}
	var faults []error
	if k.Type != KitTypeName {
		faults = append(faults, fmt.Errorf("type is not %q", KitTypeName))
	}
	if k.Role != role {
		faults = append(faults, fmt.Errorf("it is for role %q, this is the %s's side: the two kits may be swapped", k.Role, role))
	}
	if !ValidName(k.Name) {
		faults = append(faults, errors.New("name is not a name"))
	}
	if _, err := k.Key.Identity(); err != nil {
		faults = append(faults, err)
	}
	if _, err := k.Trust.Trust(); err != nil {
		faults = append(faults, err)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("kit: %w", err)
	}
	return k, nil
}
