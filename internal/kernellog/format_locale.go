// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"strings"
	"time"
	"unicode"
)

// localMonths are the short names of months in the locales of glibc, in lower case and
// without their dot. A word that means different months in different languages (lip, srp
// and lis in Polish, Czech and Croatian) is left out: a wrong date is worse than none.
var localMonths = monthTable(
	// en, de, da, nl, sv, sk, sl
	"jan feb mar apr may jun jul aug sep oct nov dec",
	"jan feb mär apr mai jun jul aug sep okt nov dez",
	"jan feb mrt apr mei jun jul avg sep okt nov dec",
	"jan feb mar apr maj jún júl aug sep okt nov dec",
	// nb, et, hu
	"jan feb mars april mai juni juli aug sep okt nov des",
	"jaan veebr märts apr mai juuni juuli aug sept okt nov dets",
	"jan febr márc ápr máj jún júl aug szept okt nov dec",
	// fr, es, it, pt, ca, ro
	"janv févr mars avril mai juin juil août sept oct nov déc",
	"ene feb mar abr may jun jul ago sep oct nov dic",
	"gen feb mar apr mag giu lug ago set ott nov dic",
	"jan fev mar abr mai jun jul ago set out nov dez",
	"gen febr març abr maig juny jul ag set oct nov des",
	"ian feb mar apr mai iun iul aug sep oct nov dec",
	// pl, cs, hr, without the words that they use for different months
	"sty lut mar kwi maj cze - sie wrz paź - gru",
	"led úno bře dub kvě čen čec - zář říj - pro",
	"sij velj ožu tra svi - - kol ruj - stu pro",
	// lt, fi, tr
	"saus vas kov bal geg birž liep rugp rugs spal lapkr gruod",
	"tammi helmi maalis huhti touko kesä heinä elo syys loka marras joulu",
	"oca şub mar nis may haz tem ağu eyl eki kas ara",
	// ru, uk, bg, sr, el
	"янв фев мар апр мая июн июл авг сен окт ноя дек",
	"янв фев мар апр май июн июл авг сен окт ноя дек",
	"січ лют бер кві тра чер лип сер вер жов лис гру",
	"яну фев мар апр май юни юли авг сеп окт ное дек",
	"јан феб мар апр мај јун јул авг сеп окт нов дец",
	"ιαν φεβ μαρ απρ μαΐ ιουν ιουλ αυγ σεπ οκτ νοε δεκ",
	// ja, zh; ko; vi
	"1月 2月 3月 4月 5月 6月 7月 8月 9月 10月 11月 12月",
	"1월 2월 3월 4월 5월 6월 7월 8월 9월 10월 11월 12월",
	"th1 th2 th3 th4 th5 th6 th7 th8 th9 th10 th11 th12",
)

func monthTable(rows ...string) map[string]time.Month {
	table := map[string]time.Month{}

	for _, row := range rows {
		for i, word := range strings.Fields(row) {
			if word != "-" {
				table[word] = time.Month(i + 1)
			}
		}
	}

	return table
}

// monthOf returns the month that a word stands for, 0 if it is not known.
func monthOf(word string) time.Month {
	return localMonths[strings.TrimSuffix(strings.ToLower(word), ".")]
}

// isDateWord reports whether a word can be the name of a day or of a month in any language.
func isDateWord(word string) bool {
	if word == "" || len(word) > 24 {
		return false
	}

	for _, c := range word {
		if !unicode.IsLetter(c) && !unicode.IsMark(c) && !unicode.IsDigit(c) && c != '.' {
			return false
		}
	}

	return hasLetter(word)
}
