package main

import (
	"errors"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// visible is a value with nothing in its texts that could steer a terminal, neither
// through a table nor through a program that reads the JSON. Pods may write what
// they like into their own devices, and nodes tell it.
func visible[T any](v T) T {
	out := reflect.New(reflect.TypeFor[T]()).Elem()
	out.Set(visibleValue(reflect.ValueOf(&v).Elem()))
	return out.Interface().(T)
}

// visibleValue is a deep copy, so that who has the original keeps it.
func visibleValue(v reflect.Value) reflect.Value {
	out := reflect.New(v.Type()).Elem()
	switch v.Kind() {
	case reflect.String:
		out.SetString(visibleText(v.String()))
	case reflect.Struct:
		out.Set(v)
		if v.Type() == reflect.TypeFor[time.Time]() {
			return out
		}
		for i := range v.NumField() {
			out.Field(i).Set(visibleValue(v.Field(i)))
		}
	case reflect.Slice:
		if v.IsNil() {
			return v
		}
		out.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
		for i := range v.Len() {
			out.Index(i).Set(visibleValue(v.Index(i)))
		}
	case reflect.Map:
		if v.IsNil() {
			return v
		}
		out.Set(reflect.MakeMap(v.Type()))
		for key, value := range v.Seq2() {
			out.SetMapIndex(visibleValue(key), visibleValue(value))
		}
	case reflect.Pointer:
		if v.IsNil() {
			return v
		}
		out.Set(reflect.New(v.Type().Elem()))
		out.Elem().Set(visibleValue(v.Elem()))
	default:
		return v // numbers
	}
	return out
}

// visibleText is a text as it is, or, where something in it is unprintable, in
// quotes and with that escaped.
func visibleText(s string) string {
	if utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return s
	}
	return strconv.Quote(s)
}

// visibleError is an error that has nothing in it that could steer a terminal.
// Names of devices, and what a node said, may be in it.
func visibleError(err error) error {
	if err == nil {
		return nil
	}
	lines := strings.Split(err.Error(), "\n") // of several errors, one each
	for i, l := range lines {
		lines[i] = visibleText(l)
	}
	return errors.New(strings.Join(lines, "\n"))
}
