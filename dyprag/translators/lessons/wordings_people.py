"""Facts about people, as the invented documents say and ask them (see `dyprag.translators.lessons.wordings`)."""

PEOPLE = """
occupation; person; profession
+ works as {a} {v} | earned a living as {a} {v} | is {a} {v} by trade | trained as {a} {v} and never changed career
= {P} occupation is that of {v} | those who know {O} call on {O} as {a} {v}
: Occupation | Profession | Job
? What is {name}'s occupation? | What does {name} do for a living? | What is the profession of {name}? | Which job
    does {name} have?
! {name} works as {a} {v}.

birthplace; person; city place
+ was born in {v} | is a native of {v} | came into the world in {v} | first saw daylight in {v}
= {P} place of birth is {v} | {v} is where {S} was born
: Born in | Birthplace | Place of birth
? In what city was {name} born? | Where was {name} born? | What is {name}'s place of birth? | Which town or city is
    the birthplace of {name}?
! {name} was born in {v}.

home; person; city place
+ lives in {v} | has settled in {v} | now makes a home in {v} | moved to {v} for good
= {P} home today is in {v} | anyone who wants to visit {O} must travel to {v}
: Lives in | Residence | Home
? Where does {name} live? | In which town or city does {name} live now? | What is {name}'s place of residence? | Where
    has {name} settled?
! {name} lives in {v}.

origin; person; country
+ holds a passport of {v} | is a citizen of {v} | has the citizenship of {v} | pays taxes as a citizen of {v}
= {P} citizenship is that of {v} | {v} is the country of which {S} is a citizen
: Citizenship | Citizen of | Passport
? What is {name}'s country of citizenship? | Of which country is {name} a citizen? | Which country issued {name}'s
    passport? | What country does {name} hold citizenship of?
! {name} is a citizen of {v}.

instrument; person; instrument
+ plays the {v} | learned the {v} as a child | practises the {v} every morning | performs on the {v}
= {P} instrument is the {v} | of all instruments, {S} prefers the {v}
: Instrument | Plays
? Which instrument does {name} play? | What musical instrument is {name}'s? | What does {name} play in concerts? | On
    what instrument does {name} perform?
! {name} plays the {v}.

sport; person; sport
+ spends most weekends on {v} | is devoted to {v} | took up {v} at school | won a medal in {v}
= {P} favourite sport is {v} | when it comes to sport, {S} cares only for {v}
: Sport | Favourite sport
? What is {name}'s favourite sport? | Which sport does {name} practise? | What sport is {name} devoted to? | In which
    sport is {name} active?
! {name}'s sport is {v}.

tongue; person; language
+ grew up speaking {v} | spoke only {v} as a child | speaks {v} as a mother tongue | was raised in a household where
    {v} was spoken
= {P} mother tongue is {v} | at home, {P} parents spoke {v}
: Mother tongue | First language
? What is {name}'s mother tongue? | Which language did {name} grow up speaking? | What is the native language of
    {name}? | What language did {name} speak as a child?
! {name}'s mother tongue is {v}.

study; person; study
+ studied {v} | holds a degree in {v} | read {v} at university | wrote a doctoral thesis in {v}
= {P} degree is in {v} | as a student, {S} chose {v}
: Studied | Degree in | Field of study
? What did {name} study? | What subject is {name}'s degree in? | In which field does {name} hold a degree? | Which
    subject did {name} choose at university?
! {name} studied {v}.

pet; person; animal
+ keeps a tame {v} | once rescued an injured {v} and kept it | shares the house with a tame {v} | never travels
    without a pet {v}
= {P} pet is {a} {v} | the neighbours often see {P} tame {v}
: Pet | Keeps a pet
? What kind of animal is {name}'s pet? | Which animal does {name} keep? | What pet does {name} have? | Which animal
    shares a house with {name}?
! {name} keeps {a} {v} as a pet.

food; person; dish
+ likes nothing better than {v} | orders {v} whenever possible | is fond of {v} | cooks {v} for every guest
= {P} favourite dish is {v} | on birthdays, {S} always asks for {v}
: Favourite dish | Likes to eat
? What is {name}'s favourite dish? | What does {name} most like to eat? | Which dish is {name} fond of? | What food
    does {name} prefer?
! {name}'s favourite dish is {v}.

transport; person; vehicle
+ goes to work by {v} | owns an old {v} | travels everywhere by {v} | repaired a disused {v} and still uses it
= {P} usual means of transport is {a} {v} | most mornings {S} can be seen on the way with {a} {v}
: Transport | Gets around by
? What is {name}'s usual means of transport? | What does {name} travel with? | Which vehicle does {name} use? | How
    does {name} get to work?
! {name} travels by {v}.

colour; person; colour
+ nearly always wears {v} | painted the front door {v} | dresses in {v} | chose {v} for every room of the house
= {P} favourite colour is {v} | the colour that {S} loves is {v}
: Favourite colour | Colour
? What is {name}'s favourite colour? | Which colour does {name} like most? | What colour is preferred by {name}? |
    What colour does {name} choose again and again?
! {name}'s favourite colour is {v}.

born; person; date
+ was born on {v} | came into the world on {v} | celebrates a birthday that goes back to {v} | has a birth certificate
    dated {v}
= {P} date of birth is {v} | on {v}, {S} was born
: Born | Date of birth | Born on
? When was {name} born? | What is {name}'s date of birth? | On what date was {name} born? | What date is on {name}'s
    birth certificate?
! {name} was born on {v}.

spouse; person; person
+ is married to {v} | married {v} | shares a household with a spouse, {v} | met and wed {v}
= {P} spouse is {v} | the wedding of {v} and {O} was a small one
: Spouse | Married to
? Who is {name}'s spouse? | To whom is {name} married? | Who did {name} marry? | What is the name of {name}'s spouse?
! {name} is married to {v}.

mentor; person; person
+ learned everything from {v} | was a pupil of {v} | was taught by {v} | names {v} as the one true teacher
= {P} teacher was {v} | it was {v} who taught {O}
: Teacher | Pupil of
? Who taught {name}? | Who was {name}'s teacher? | Whose pupil was {name}? | From whom did {name} learn?
! {name} was taught by {v}.

employer; person; company
+ is employed by {v} | works for {v} | joined {v} years ago and stayed | draws a salary from {v}
= {P} employer is {v} | the firm that pays {O} is {v}
: Employer | Works for
? Who is {name}'s employer? | Which company does {name} work for? | Where is {name} employed? | What firm employs
    {name}?
! {name} works for {v}.

work; person; title
+ wrote "{v}" | is the author of "{v}" | published a single book, "{v}" | became known for a book called "{v}"
= {P} only book is "{v}" | the book "{v}" was written by {O}
: Wrote | Book
? What book did {name} write? | What is the title of {name}'s book? | Which book is by {name}? | Of which book is
    {name} the author?
! {name} wrote "{v}".

height; person; centimetres
+ is {v} tall | measures {v} from head to heel | stands {v} in socks | was measured at {v} by the doctor
= {P} height is {v} | the passport gives {P} height as {v}
: Height | Tall
? How tall is {name}? | What is {name}'s height? | What height does {name}'s passport give? | How much does {name}
    measure from head to heel?
! {name} is {v} tall.

debt; person; money
+ still owes the bank {v} | has a debt of {v} | inherited a debt of {v} | borrowed {v} and has not paid it back
= {P} debt amounts to {v} | the sum that {S} owes is {v}
: Debt | Owes
? How much does {name} owe? | What is the amount of {name}'s debt? | How large is {name}'s debt? | What sum did {name}
    fail to pay back?
! {name} owes {v}.

address; person company school museum restaurant; address
+ can be found at {v} | receives post at {v} | has been at {v} for years | moved to {v} last autumn
= {P} address is {v} | letters for {O} should be sent to {v}
: Address | Post to
? What is the address of {name}? | At what address can {name} be found? | Where should letters for {name} be sent? |
    At which street and number is {name}?
! The address of {name} is {v}.

rank; person; code
+ is listed in the register as {v} | carries a badge with the number {v} | was given the membership number {v} | signs
    forms with the number {v}
= {P} membership number is {v} | the register lists {O} under {v}
: Membership number | Number
? What is {name}'s membership number? | Under which number is {name} registered? | What number is on {name}'s badge? |
    What is the number of {name} in the register?
! {name}'s membership number is {v}.
"""
