package sandbox

import "testing"

func TestACodeIsGoodOnceForOneAppForAMinute(t *testing.T) {
	clock := newTestClock()
	c := newCodes(clock.Now)
	once, wrong, late := c.issue("ui", "bob"), c.issue("ui", "bob"), c.issue("ui", "bob")

	if user, ok := c.redeem(once, "ui"); !ok || user != "bob" {
		t.Error("first use refused")
	}
	if _, ok := c.redeem(once, "ui"); ok {
		t.Error("second use accepted")
	}
	if _, ok := c.redeem(wrong, "middleware"); ok {
		t.Error("another app's code accepted")
	}
	if _, ok := c.redeem(wrong, "ui"); ok {
		t.Error("a code survived its misuse")
	}
	clock.Advance(codeLifetime)
	if _, ok := c.redeem(late, "ui"); ok {
		t.Error("an old code accepted")
	}
	if _, ok := c.redeem("", "ui"); ok {
		t.Error("no code accepted")
	}
}

func TestCodesAreBounded(t *testing.T) {
	clock := newTestClock()
	c := newCodes(clock.Now)
	for range maxCodes {
		if c.issue("ui", "bob") == "" {
			t.Fatal("refused too early")
		}
	}
	if c.issue("ui", "bob") != "" {
		t.Error("not bounded")
	}
	clock.Advance(codeLifetime)
	if c.issue("ui", "bob") == "" {
		t.Error("expired codes were not forgotten")
	}
}
