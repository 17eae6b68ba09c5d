#!/usr/bin/perl
# HTML pages of the LibreOffice help, whose paths are on standard input -> documents of plain text:
# one page each, one paragraph a line, a blank line between pages. Paragraphs that many pages share
# are kept once.
use strict;
use warnings;

my %entities = (amp => '&', lt => '<', gt => '>', quot => '"', apos => "'", nbsp => ' ');
my %seen;

while (my $path = <STDIN>) {
  chomp $path;
  open my $f, '<', $path or die "$path: $!\n";
  my $page = do { local $/; <$f> };
  close $f;
  next unless $page =~ s/^.*?<div id="DisplayArea"[^>]*>//s;
  $page =~ s/<div id="(?:SearchFrame|DonationFrame)".*//s;
  $page =~ s/<(pre|script|style|table class="wide")\b.*?<\/\1>//gs;
  # Only the default variant of texts that differ by operating system.
  $page =~ s/<span hidden="true" id="[^"]*" class="(?:MAC|WIN|UNIX)">(?:<span[^>]*>[^<]*<\/span>|[^<])*<\/span>//g;
  my @out;
  while ($page =~ /<(p|h[1-6]|td|li)\b[^>]*>(.*?)<\/\1>/gs) {
    my ($kind, $text) = ($1, $2);
    $text =~ s/<br[^>]*>/ /g;
    $text =~ s/<[^>]*>//g;
    $text =~ s/&(\w+);/exists $entities{$1} ? $entities{$1} : ' '/ge;
    $text =~ s/&#\d+;/ /g;
    $text =~ s/\s+/ /g;
    $text =~ s/^ | $//g;
    my $words = 1 + ($text =~ tr/ //);
    next if $text =~ /^(?:Icon|To access this command)/ || $words < ($kind =~ /^h/ ? 1 : 4);
    push @out, $text unless $seen{$text}++;
  }
  print join("\n", @out), "\n\n" if @out > 1;
}
