#!/usr/bin/perl
# HTML pages, whose paths are on standard input -> documents of plain text: one page each, one
# paragraph a line, a blank line between pages. Left out: code, navigation, fragments of few words.
# Paragraphs that several pages share are kept once.
use strict;
use warnings;

my %entities = (amp => '&', lt => '<', gt => '>', quot => '"', apos => "'", nbsp => ' ');
my %seen;

while (my $path = <STDIN>) {
  chomp $path;
  open my $f, '<', $path or die "$path: $!\n";
  my $page = do { local $/; <$f> };
  close $f;
  $page =~ s/^.*?<body\b[^>]*>//s;
  $page =~ s/<(pre|script|style|title)\b.*?<\/\1>//gs;
  # LibreOffice: the text proper, and only the default of variants that differ by operating system.
  $page =~ s/^.*?<div id="DisplayArea"[^>]*>//s;
  $page =~ s/<div id="(?:SearchFrame|DonationFrame)".*//s;
  $page =~ s/<span hidden="true" id="[^"]*" class="(?:MAC|WIN|UNIX)">(?:<span[^>]*>[^<]*<\/span>|[^<])*<\/span>//g;
  my @out;
  # DocBook (PostgreSQL): the links to the pages around.
  $page =~ s/<div[^>]*class="nav(?:header|footer)".*?<\/table>//gs;
  my $block = qr/p|h[1-6]|t[dhr]|li|d[dtl]|div|[uo]l|table|body/;
  while ($page =~ /<(p|h[1-6]|td|li|dd)\b[^>]*>(.*?)(?=<\/?$block\b)/gs) {
    my ($kind, $text) = ($1, $2);
    $text =~ s/<br[^>]*>/ /g;
    $text =~ s/<[^>]*>//g;
    $text =~ s/&(\w+);/exists $entities{$1} ? $entities{$1} : ' '/ge;
    $text =~ s/&#(?:8217|x2019);/'/g;
    $text =~ s/&#\w+;/ /g;
    $text =~ s/[^\x20-\x7e]+/ /g;
    $text =~ s/\s+/ /g;
    $text =~ s/^ | $//g;
    my $words = 1 + ($text =~ tr/ //);
    next if $text =~ /^(?:Icon|To access this command)/ || $words < ($kind =~ /^h/ ? 1 : 4);
    push @out, $text unless $seen{$text}++;
  }
  print join("\n", @out), "\n\n" if @out > 1;
}
