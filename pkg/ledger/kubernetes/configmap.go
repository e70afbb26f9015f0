// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
)

const prefix = "metal-stack." + infrastructure.GroupName + "/"

// What a ConfigMap of a record is known by. A record of the key
// "metalstackmachines/team-a/node-1" has these three parts in the labels, as
// far as they are label values, so that people can select by them.
const (
	// RecordLabel makes a ConfigMap a record: its value is the resource.
	RecordLabel = prefix + "record"
	// NamespaceLabel and NameLabel say whose record it is.
	NamespaceLabel = prefix + "record-namespace"
	NameLabel      = prefix + "record-name"
	// KeyAnnotation holds the key.
	KeyAnnotation = prefix + "record-key"
	// WriteAnnotation holds a word that is new with every write, by which a
	// writer whose answer was lost knows its own.
	WriteAnnotation = prefix + "record-write"

	managedByLabel = "app.kubernetes.io/managed-by"
	fieldManager   = "metalstack-apiserver"
)

// Where in a ConfigMap the value is; one of them is there.
const (
	// JSONValue is for values that are JSON without spaces: people read them,
	// so they are stored with line breaks and indents, which are taken out
	// again when the record is read.
	JSONValue = "record.json"
	// TextValue is for all other text, as it is.
	TextValue = "record.txt"
	// BinaryValue is for what is no text.
	BinaryValue = "record.bin"
)

// MaxValueBytes is how large a value may be: the API server takes no ConfigMap
// whose values are larger.
const MaxValueBytes = corev1.MaxSecretSize

const (
	namePrefix  = "record-"
	hashDigits  = 32
	maxReadable = validation.DNS1123SubdomainMaxLength - len(namePrefix) - len("-") - hashDigits
)

var (
	nameForm   = regexp.MustCompile(fmt.Sprintf(`^%s(?:[a-z0-9-]+-)?[0-9a-f]{%d}$`, namePrefix, hashDigits))
	unreadable = regexp.MustCompile(`[^a-z0-9]+`)
)

// nameOf is the name of the ConfigMap of a key: something to read, and a hash
// that makes it the key's own. One key has one name, so that the API server
// lets one of two creates win. It must never change: records are found by it.
func nameOf(key string) string {
	sum := sha256.Sum256([]byte(key))
	readable := unreadable.ReplaceAllString(strings.ToLower(key), "-")
	readable = strings.Trim(readable[:min(len(readable), maxReadable)], "-")
	if readable != "" {
		readable += "-"
	}
	return namePrefix + readable + hex.EncodeToString(sum[:])[:hashDigits]
}

// checkKey returns an error if key cannot be kept in an annotation.
func checkKey(key string) error {
	if err := ledger.CheckKey(key); err != nil {
		return fmt.Errorf("%w: %w", err, ledger.ErrNotWritten)
	}
	if !utf8.ValidString(key) {
		return fmt.Errorf("invalid key %.60q: must be UTF-8: %w", key, ledger.ErrNotWritten)
	}
	return nil
}

// configMap returns what stores a value under a key.
func configMap(namespace, key string, value []byte, write string) (*corev1.ConfigMap, error) {
	if len(value) > MaxValueBytes {
		return nil, fmt.Errorf("value of %d bytes exceeds the limit of a ConfigMap, %d bytes: %w", len(value), MaxValueBytes, ledger.ErrTooLarge)
	}
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
		Namespace:   namespace,
		Name:        nameOf(key),
		Labels:      labels(key),
		Annotations: map[string]string{KeyAnnotation: key, WriteAnnotation: write},
	}}
	if !utf8.Valid(value) {
		cm.BinaryData = map[string][]byte{BinaryValue: value}
	} else if indented, ok := indent(value); ok {
		cm.Data = map[string]string{JSONValue: indented}
	} else {
		cm.Data = map[string]string{TextValue: string(value)}
	}
	return cm, nil
}

func labels(key string) map[string]string {
	l := map[string]string{RecordLabel: "", managedByLabel: fieldManager}
	parts := strings.Split(key, "/")
	if len(parts) != 3 {
		return l
	}
	for i, label := range []string{RecordLabel, NamespaceLabel, NameLabel} {
		if len(validation.IsValidLabelValue(parts[i])) == 0 {
			l[label] = parts[i]
		}
	}
	return l
}

const (
	// maxIndented is how large a value may be that is indented: people read no
	// larger ones.
	maxIndented = 256 << 10
	// indentedLevels is how many levels of a value are indented; what is nested more
	// deeply is on one line. Every kube-controller-manager caches all ConfigMaps, so
	// whitespace costs memory: managed fields alone would be a line for each field.
	indentedLevels = 3
	indentation    = "  "
)

// indent returns value for people to read, if that can be undone.
func indent(value []byte) (string, bool) {
	if len(value) > maxIndented {
		return "", false
	}
	indented := indentJSON(value)
	if indented.Len() > MaxValueBytes {
		return "", false
	}
	var back bytes.Buffer
	back.Grow(len(value))
	if json.Compact(&back, indented.Bytes()) != nil || !bytes.Equal(back.Bytes(), value) {
		return "", false
	}
	return indented.String(), true
}

// indentJSON adds line breaks and indents to JSON without spaces.
func indentJSON(value []byte) *bytes.Buffer {
	var to bytes.Buffer
	to.Grow(len(value) + len(value)/4)
	level, quoted := 0, false
	newline := func(indents int) {
		if level <= indentedLevels {
			to.WriteByte('\n')
			to.WriteString(strings.Repeat(indentation, max(0, indents)))
		}
	}
	for i := 0; i < len(value); i++ {
		c := value[i]
		empty := i+1 < len(value) && (c == '{' && value[i+1] == '}' || c == '[' && value[i+1] == ']')
		switch {
		case quoted && c == '\\' && i+1 < len(value):
			to.Write(value[i : i+2])
			i++ // what is escaped
		case quoted || c == '"':
			to.WriteByte(c)
			quoted = quoted != (c == '"')
		case empty:
			to.Write(value[i : i+2])
			i++
		case c == '{', c == '[':
			to.WriteByte(c)
			level++
			newline(level)
		case c == '}', c == ']':
			newline(level - 1)
			level--
			to.WriteByte(c)
		case c == ',':
			to.WriteByte(c)
			newline(level)
		case c == ':' && level <= indentedLevels:
			to.WriteString(": ")
		default:
			to.WriteByte(c)
		}
	}
	return &to
}

// keyOf returns the key of which cm is the record, or "" if cm does not say.
// The name proves it: if the annotation was removed, the labels are tried.
func keyOf(cm *corev1.ConfigMap) string {
	l := cm.Labels
	for _, key := range []string{cm.Annotations[KeyAnnotation], strings.Join([]string{l[RecordLabel], l[NamespaceLabel], l[NameLabel]}, "/")} {
		if ledger.CheckKey(key) == nil && nameOf(key) == cm.Name {
			return key
		}
	}
	return ""
}

// valueOf returns the value in cm, or what is left of it and an error.
func valueOf(cm *corev1.ConfigMap) ([]byte, error) {
	if text, found := cm.Data[JSONValue]; found {
		var compact bytes.Buffer
		if err := json.Compact(&compact, []byte(text)); err != nil {
			return []byte(text), fmt.Errorf("invalid JSON in %s: %w", JSONValue, err)
		}
		return compact.Bytes(), nil
	}
	if text, found := cm.Data[TextValue]; found {
		return []byte(text), nil
	}
	if value, found := cm.BinaryData[BinaryValue]; found {
		return value, nil
	}
	return nil, errors.New("no value: none of " + JSONValue + ", " + TextValue + " and " + BinaryValue + " is set")
}

// versionOf is the version of the state that cm is: the resource version alone
// would not do for those who delete a record and create it anew.
func versionOf(cm *corev1.ConfigMap) string { return string(cm.UID) + "/" + cm.ResourceVersion }
